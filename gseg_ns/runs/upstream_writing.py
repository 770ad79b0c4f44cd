"""Nerfstudio's own commands write their results in place: here each file is written beside and moved.

`ns-render`, `ns-export` and `ns-eval` write with what their modules know by name: `open`, mediapy, Open3D and others.
They are given the same, but for what writes a file. Nothing that is written differs.
"""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import ModuleType, TracebackType
from typing import IO, Any

from gseg_ns.errors import GsegError
from gseg_ns.files import atomic_path, is_full

_WRAPPED = "_gseg_writes_whole"


def guard_writing() -> None:
    """Let the modules that are imported by now write whole files. May be called again.

    A command's modules are all there when it reads its config.yml.
    """
    started = sys.modules.get("__main__")  # python -m nerfstudio.scripts.render
    for name, replace in _REPLACED.items():
        modules = [sys.modules.get(name)]
        if getattr(getattr(started, "__spec__", None), "name", "") == name:
            modules.append(started)
        for module in modules:
            if module is not None and not hasattr(module, _WRAPPED):
                module.__dict__.update(replace(module), **{_WRAPPED: True})


class WholePath(type(Path())):  # type: ignore[misc]  # the class that this system has
    """A path whose text is written whole."""

    def write_text(self, data: str, encoding: str | None = None, *args: Any, **options: Any) -> int:
        """As `Path.write_text`."""
        with atomic_path(Path(self)) as temporary:
            return temporary.write_text(data, encoding, *args, **options)


class _Like:
    """A module, but for some of its names."""

    def __init__(self, original: Any, **replaced: Any) -> None:
        self.__dict__.update(replaced)
        self._original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class _WholeFile:
    """An open file that is there under its name once it has been closed, unless something went wrong before."""

    def __init__(self, path: Path, open_at: Callable[[Path, ExitStack], IO[Any]]) -> None:
        self._stack = ExitStack()
        with self._stack:  # what cannot be opened leaves nothing
            self._stream = open_at(self._stack.enter_context(atomic_path(path)), self._stack)
            self._stack = self._stack.pop_all()

    def write(self, data: Any) -> int:
        return self._attempt(self._stream.write, data)

    def writelines(self, lines: Any) -> None:
        self._attempt(self._stream.writelines, lines)

    def close(self) -> None:
        self._stack.close()

    def _attempt(self, write: Callable[[Any], Any], data: Any) -> Any:
        try:
            return write(data)
        except OSError:
            # Who opened it without `with` does not close it now.
            if not self._stack.__exit__(*sys.exc_info()):
                raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> _WholeFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def _open(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
    """As `open`."""
    if "w" not in mode:
        return Path(file).open(mode, *args, **options)
    return _WholeFile(Path(file), lambda path, stack: stack.enter_context(path.open(mode, *args, **options)))


def _open_gzip(gzip: Any) -> Callable[..., Any]:
    """As `gzip.open`; the name that the file holds is its own."""

    def open_whole(file: Any, mode: str = "rb", *args: Any, **options: Any) -> Any:
        if mode != "wb":
            return gzip.open(file, mode, *args, **options)

        def open_at(path: Path, stack: ExitStack) -> Any:
            stream = stack.enter_context(path.open("wb"))
            return stack.enter_context(gzip.GzipFile(Path(file).name, mode, *args, fileobj=stream, **options))

        return _WholeFile(Path(file), open_at)

    return open_whole


def _whole(write: Callable[..., Any], at: int = 0, name: str = "filename") -> Callable[..., Any]:
    """A function that writes one file, so that it is there whole or not at all.

    Args:
        write: of a library that may say nothing of a full disk.
        at: position of the path among its arguments.
        name: of that argument.
    """

    @functools.wraps(write)
    def written(*args: Any, **options: Any) -> Any:
        given = list(args)
        path = Path(options[name] if name in options else given[at])
        with atomic_path(path) as temporary:
            if name in options:
                options[name] = str(temporary)
            else:
                given[at] = str(temporary)
            try:
                result = write(*given, **options)
            except (OSError, GsegError):
                raise
            except Exception as error:  # each library has its own
                raise _cannot_write(path, error) from error
            if result is False or not temporary.is_file() or is_full(temporary):
                raise _cannot_write(path)
        return result

    return written


def _cannot_write(path: Path, error: Exception | None = None) -> GsegError:
    lines = str(error).strip().splitlines() if error is not None else []
    reason = f" ({lines[-1][:200]})" if lines else ""
    return GsegError(f"Cannot write {path}{reason}. Check free space and permissions.")


def _film_writer(media: Any) -> type:
    """As `mediapy.VideoWriter`, a context."""

    class VideoWriter:
        def __init__(self, path: Any, *args: Any, **options: Any) -> None:
            self._path, self._make = Path(path), lambda temporary: media.VideoWriter(temporary, *args, **options)
            self._stack = ExitStack()

        def __enter__(self) -> Any:
            with self._stack:
                self._temporary = self._stack.enter_context(atomic_path(self._path))
                self._film = self._make(self._temporary)
                self._attempt(self._film.__enter__)
                self._stack = self._stack.pop_all()
            return self

        def add_image(self, image: Any) -> None:
            self._attempt(self._film.add_image, image)

        def __exit__(self, *error: Any) -> None:
            # What stopped the rendering is what counts, and not what ffmpeg says of half a film.
            with self._stack:
                if error[0] is None:
                    self._attempt(self._film.__exit__, *error)
                    if is_full(self._temporary):
                        raise _cannot_write(self._path)
                else:
                    with suppress(Exception):
                        self._film.__exit__(*error)
                    self._stack.pop_all().__exit__(*error)

        def _attempt(self, function: Callable[..., Any], *args: Any) -> None:
            try:
                function(*args)
            except RuntimeError as error:  # of ffmpeg
                raise _cannot_write(self._path, error) from error

    return VideoWriter


def _media(module: ModuleType) -> _Like:
    media = module.__dict__["media"]
    return _Like(media, write_image=_whole(media.write_image, name="path"), VideoWriter=_film_writer(media))


def _render(module: ModuleType) -> dict[str, Any]:
    upstream = module.__dict__["insert_spherical_metadata_into_file"]

    @functools.wraps(upstream)
    def insert_spherical_metadata_into_file(output_filename: Path) -> None:
        with atomic_path(output_filename) as temporary:
            shutil.copyfile(output_filename, temporary)
            upstream(temporary)

    gzip = module.__dict__["gzip"]
    return {
        "media": _media(module),
        "gzip": _Like(gzip, open=_open_gzip(gzip)),
        "insert_spherical_metadata_into_file": insert_spherical_metadata_into_file,
    }


def _exporter(module: ModuleType) -> dict[str, Any]:
    o3d, marching_cubes = module.__dict__["o3d"], module.__dict__["generate_mesh_with_multires_marching_cubes"]
    legacy = _Like(
        o3d.io,
        write_point_cloud=_whole(o3d.io.write_point_cloud),
        write_triangle_mesh=_whole(o3d.io.write_triangle_mesh),
    )
    tensors = _Like(o3d.t.io, write_point_cloud=_whole(o3d.t.io.write_point_cloud))

    @functools.wraps(marching_cubes)
    def generate_mesh_with_multires_marching_cubes(*args: Any, **options: Any) -> Any:
        mesh = marching_cubes(*args, **options)
        mesh.export = _whole(mesh.export, name="file_obj")
        return mesh

    return {
        "open": _open,
        "o3d": _Like(o3d, io=legacy, t=_Like(o3d.t, io=tensors)),
        "generate_mesh_with_multires_marching_cubes": generate_mesh_with_multires_marching_cubes,
    }


def _tsdf_utils(module: ModuleType) -> dict[str, Any]:
    upstream = module.__dict__["TSDF"].export_mesh
    module.__dict__["TSDF"].export_mesh = staticmethod(_whole(upstream, at=1))
    return {}


def _base_pipeline(module: ModuleType) -> dict[str, Any]:
    vutils = module.__dict__["vutils"]
    return {"vutils": _Like(vutils, save_image=_whole(vutils.save_image, at=1, name="fp"))}


_REPLACED: dict[str, Callable[[ModuleType], dict[str, Any]]] = {
    "nerfstudio.scripts.render": _render,
    "nerfstudio.scripts.exporter": _exporter,
    "nerfstudio.exporter.texture_utils": lambda module: {"media": _media(module), "open": _open},
    "nerfstudio.exporter.tsdf_utils": _tsdf_utils,
    "nerfstudio.pipelines.base_pipeline": _base_pipeline,
}
"""Modules that write files, and what takes the place of what they write with."""
