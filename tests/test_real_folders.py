"""What people's folders are like, by kinds, and the tests that make such inputs: each kind has three or more."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

KINDS = {
    "photograph against undistorted view": """
        cli/test_distorted_scene.py::test_scores_are_those_of_a_scene_without_distortion
        cli/test_distorted_scene.py::test_ids_lie_on_the_photographs
        cli/test_distorted_scene.py::test_marks_are_made_on_the_photograph
        cli/test_distorted_scene.py::test_clicks_and_prompts_score_as_on_a_scene_without_distortion
        cli/test_awkward_scene.py::test_scores_and_ids
        data/test_datamanager.py::test_masks_follow_the_image_through_undistortion
        data/test_lenses.py::test_views_are_those_of_nerfstudio""",
    "a view is its path": """
        cli/test_distorted_scene.py::test_pictures_of_two_cameras_do_not_overwrite_each_other
        data/test_photographs.py::test_views_of_one_name_in_two_folders_are_two_views
        data/test_photographs.py::test_ground_truth_that_could_be_of_two_views_is_refused
        masks/test_folder.py::test_what_is_advised_for_two_images_of_one_name_helps""",
    "which reconstruction": """
        captures/test_reading.py::test_the_largest_reconstruction_is_taken_and_said
        captures/test_reading.py::test_a_damaged_reconstruction_is_left_out_where_there_is_another
        captures/test_reading.py::test_a_larger_reconstruction_beside_a_transforms_json_is_told
        captures/test_reading.py::test_a_reconstruction_in_an_unusual_place_is_found
        captures/test_reading.py::test_a_reconstruction_of_the_same_size_is_told_and_a_copy_is_not""",
    "frames are checked": """
        captures/test_reading.py::test_points_of_a_model_come_into_the_frame_of_the_poses
        captures/test_reading.py::test_cameras_that_disagree_are_counted_and_most_decide
        captures/test_reading.py::test_points_of_another_reconstruction_are_not_used
        captures/test_reading.py::test_a_cloud_in_colmaps_frame_is_moved_to_the_poses""",
    "valid infinities and degenerate splats": """
        splats/test_degenerate.py::test_valid_infinities_become_finite_and_invalid_numbers_stay
        splats/test_degenerate.py::test_files_with_infinities_are_read
        models/test_trained_geometry.py::test_what_cannot_be_drawn_is_left_out_and_counted
        models/test_trained_geometry.py::test_a_file_with_nothing_left_is_one_message""",
    "what a splat means beyond its numbers": """
        splats/test_degenerate.py::test_the_filter_of_mip_splatting_is_applied
        splats/test_degenerate.py::test_files_say_how_they_are_drawn
        splats/test_degenerate.py::test_surfels_of_two_scales_are_flat
        models/test_trained_geometry.py::test_a_run_says_how_it_is_drawn
        models/test_trained_geometry.py::test_a_model_draws_its_geometry_as_it_was_trained""",
    "optimised cameras": """
        cli/test_corrected_cameras.py::test_views_are_drawn_from_where_training_found_them
        cli/test_corrected_cameras.py::test_masks_are_lifted_from_there
        runs/test_scene.py::test_all_that_looks_through_a_training_camera_uses_its_corrected_pose
        models/test_trained_geometry.py::test_cameras_are_corrected_as_they_were_for_the_geometry
        models/test_trained_geometry.py::test_corrections_of_other_cameras_are_not_taken""",
    "masks that cannot belong": """
        masks/test_orientation.py::test_upright_masks_are_turned_back
        masks/test_orientation.py::test_other_proportions_are_refused
        data/test_datamanager.py::test_photometric_masks_are_no_objects
        data/test_datamanager.py::test_masks_of_what_to_train_on_are_refused
        data/test_datamanager.py::test_the_masks_of_one_photograph_for_all_are_refused
        data/test_photographs.py::test_pictures_in_place_of_label_maps_are_refused""",
    "starting clouds": """
        models/test_starting_points.py::test_points_that_are_nowhere_are_left_out_and_counted
        models/test_starting_points.py::test_very_few_points_are_filled_up
        models/test_starting_points.py::test_of_points_in_one_place_one_is_kept
        models/test_starting_points.py::test_points_without_colors_are_grey
        models/test_starting_points.py::test_a_flat_cloud_is_a_cloud
        captures/test_clouds.py::test_colors_of_other_tools""",
    "no upstream traceback for a user's file": """
        captures/test_reading.py::test_photographs_are_found_by_what_other_tools_call_them
        captures/test_reading.py::test_the_lens_is_that_of_the_file
        captures/test_reading.py::test_what_cannot_be_understood_is_one_message_with_the_file
        captures/test_reading.py::test_damaged_models_are_one_message_with_the_file
        captures/test_reading.py::test_a_camera_of_the_upright_photograph_is_turned_to_the_file""",
    "no question on the terminal": """
        dataparsers/test_gseg_data.py::test_no_scene_makes_a_parser_ask
        dataparsers/test_gseg_data.py::test_points_of_an_old_nerfstudio_folder_come_from_its_colmap_model_without_a_question
        test_compat.py::test_a_question_without_a_terminal_is_a_message""",
    "a run without its scene": """
        runs/test_scene.py::test_a_run_without_its_scene_exports_and_isolates_and_says_what_it_lacks
        runs/test_scene.py::test_a_scene_beside_the_run_is_found_and_said
        runs/test_scene.py::test_cameras_without_photographs_are_enough_for_all_but_pictures
        runs/test_scene.py::test_the_viewer_of_a_run_without_its_scene_answers""",
    "options that cannot work": """
        models/test_options.py::test_what_cannot_work_is_refused_in_one_message
        models/test_options.py::test_what_changes_nothing_is_said
        models/test_options.py::test_nothing_is_written_for_a_run_that_cannot_work""",
    "dialects of masks": """
        masks/test_dialects.py::test_a_folder_of_another_tool
        masks/test_dialects.py::test_what_cannot_be_read_is_one_message
        masks/test_dialects.py::test_names_as_tools_decorate_them
        masks/test_dialects.py::test_check_names_the_dialect
        masks/test_io.py::test_dialects_of_json""",
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_tests_of_its_own(kind: str) -> None:
    listed = KINDS[kind].split()
    assert len(set(listed)) == len(listed) >= 3
    for name in listed:
        file, _, function = name.partition("::")
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        assert any(isinstance(node, ast.FunctionDef) and node.name == function for node in ast.walk(tree)), name
        assert re.match("test_", function)
