"""What browsers send is checked before viser hands it on: viser 0.2.7 believes all of it.

A field of a page has least and greatest values, and options; who writes to the WebSocket need not have a page. For the
fields of others too: what a page sends in earnest comes through as it is.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from viser import GuiApi, GuiDropdownHandle, _messages
from viser._gui_handles import GuiUploadButtonHandle
from viser.infra import _infra

from gseg_ns.files import is_below

_LONGEST = 4096  # characters of a text
_LARGEST = 1e9  # of numbers that have no limit of their own; in units of the scene or of a scene ten times as large
_FIELD_OF_VIEW = (1e-3, math.pi - 1e-3)
_ASPECT = (1 / 20, 20.0)  # a picture's width follows from it

_FILES = ("Render name",)
"""Texts of Nerfstudio's own tabs that become the name of a file which is written."""


class Refused(ValueError):
    """A message that is passed over."""


def guard_inputs() -> None:
    """Check what comes from browsers, in every viewer of this process. May be called again."""
    if hasattr(GuiApi, "_gseg_guards"):
        return
    update, create = GuiApi._handle_gui_updates, GuiApi._create_gui_input
    upload, receive = GuiApi._handle_file_transfer_start, _infra.WebsockMessageHandler._handle_incoming_message

    @functools.wraps(create)
    def guarded_create(self: Any, value: Any, message: Any, is_button: bool = False) -> Any:
        handle = create(self, value, message, is_button)
        vars(handle._impl)["_gseg_made_by"] = message  # viser forgets least and greatest values
        return handle

    @functools.wraps(update)
    def guarded_update(self: Any, client_id: Any, message: Any) -> None:
        handle = self._gui_input_handle_from_id.get(message.id)
        try:
            value = None if handle is None else checked_value(handle, message.updates)
        except Refused:
            return
        if value is None:
            return
        update(self, client_id, replace(message, updates={"value": value}))
        sent = message.updates["value"]
        if value != (tuple(sent) if isinstance(sent, list) else sent) and not handle._impl.is_button:
            # The page that it came from shows what was made of it, too; viser has told the others.
            self._websock_interface.queue_message(_messages.GuiUpdateMessage(message.id, {"value": value}))

    @functools.wraps(upload)
    def guarded_upload(self: Any, client_id: Any, message: Any) -> None:
        handle = self._gui_input_handle_from_id.get(message.source_component_id)
        if isinstance(handle, GuiUploadButtonHandle):
            upload(self, client_id, message)

    @functools.wraps(receive)
    def guarded_receive(self: Any, client_id: Any, message: Any) -> None:
        try:
            message = checked_message(message)
        except Refused:
            return
        receive(self, client_id, message)

    GuiApi._gseg_guards = True  # type: ignore[attr-defined]
    GuiApi._create_gui_input = guarded_create  # type: ignore[method-assign]
    GuiApi._handle_gui_updates = guarded_update  # type: ignore[method-assign]
    GuiApi._handle_file_transfer_start = guarded_upload  # type: ignore[method-assign]
    _infra.WebsockMessageHandler._handle_incoming_message = guarded_receive  # type: ignore[method-assign]


def checked_value(handle: Any, updates: dict[str, Any]) -> Any:
    """The value that a field takes.

    Raises:
        Refused: something else than the value is written to, or it is none of what the field can have.
    """
    if set(updates) != {"value"}:
        raise Refused(f"{set(updates)}")
    value, made_by, now = updates["value"], handle._impl._gseg_made_by, handle._impl.value
    if isinstance(now, bool):
        return _expect(value, bool)
    if isinstance(now, str):
        return _text(handle, _expect(value, str), made_by)
    if isinstance(now, int | float):
        return _number(value, getattr(made_by, "min", None), getattr(made_by, "max", None), type(now))
    if isinstance(now, tuple):
        least, most = getattr(made_by, "min", None), getattr(made_by, "max", None)
        if isinstance(made_by, _messages.GuiAddRgbMessage | _messages.GuiAddRgbaMessage):
            least, most = 0, 255
        # Only a slider with several handles has a number of them that may change.
        values = _numbers(value, None if isinstance(made_by, _messages.GuiAddMultiSliderMessage) else len(now))
        return tuple(
            _number(number, _at(least, index), _at(most, index), type(now[0])) for index, number in enumerate(values)
        )
    raise Refused(f"{type(now)}")


def _at(limit: Any, index: int) -> float | None:
    return limit[index] if isinstance(limit, Sequence) else limit


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise Refused(f"{type(value)}")
    return value


def _text(handle: Any, text: str, made_by: Any) -> str:
    options = handle.options if isinstance(handle, GuiDropdownHandle) else getattr(made_by, "options", None)
    if options is not None:
        if text not in options:
            raise Refused("no option")
        return text
    # A field has one line. With more, it could end a block of code in Markdown and begin something else.
    text = "".join(letter if letter.isprintable() else " " for letter in text[:_LONGEST])
    if made_by.label in _FILES and not is_below(text):
        raise Refused("a path")
    return text


def _number(value: Any, least: float | None, most: float | None, kind: type = float) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Refused(f"{value!r} is no number")
    return kind(min(max(value, -_LARGEST if least is None else least), _LARGEST if most is None else most))


def _numbers(values: Any, count: int | None) -> list[Any]:
    if not isinstance(values, Sequence) or isinstance(values, str | bytes) or not values or len(values) > 1000:
        raise Refused("no numbers")
    if count is not None and len(values) != count:
        raise Refused(f"{len(values)} numbers")
    return list(values)


def _vector(values: Any, count: int = 3) -> Any:
    return tuple(_number(value, None, None) for value in _numbers(values, count))


def _direction(values: Any, count: int) -> Any:
    found = _vector(values, count)
    if not any(found):
        raise Refused("no direction")
    return found


def checked_message(message: Any) -> Any:
    """A message about cameras, clicks and handles in the scene, with numbers that are some; any other as it is.

    Raises:
        Refused: a number is none.
    """
    if isinstance(message, _messages.ViewerCameraMessage):
        return replace(
            message,
            wxyz=_direction(message.wxyz, 4),
            position=_vector(message.position),
            fov=_number(message.fov, *_FIELD_OF_VIEW),
            aspect=_number(message.aspect, *_ASPECT),
            look_at=_vector(message.look_at),
            up_direction=_vector(message.up_direction),
        )
    if isinstance(message, _messages.ScenePointerMessage):
        corners = {"click": 1, "rect-select": 2}.get(message.event_type)
        positions: Any = tuple(
            tuple(_number(value, 0.0, 1.0) for value in _numbers(corner, 2))
            for corner in _numbers(message.screen_pos, corners)
        )
        if corners is None:
            raise Refused("no event")
        return replace(message, screen_pos=positions)
    if isinstance(message, _messages.SceneNodeClickMessage):
        return replace(
            message,
            ray_origin=_vector(message.ray_origin),
            ray_direction=_direction(message.ray_direction, 3),
            screen_pos=tuple(_number(value, 0.0, 1.0) for value in _numbers(message.screen_pos, 2)),
        )
    if isinstance(message, _messages.TransformControlsUpdateMessage):
        return replace(message, wxyz=_direction(message.wxyz, 4), position=_vector(message.position))
    return message
