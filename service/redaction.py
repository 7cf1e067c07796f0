"""Keeps secrets and paths of this machine out of what is logged, whoever put them into a message."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from tasks.settings import Settings

__all__ = ["Redaction"]

_ROOT = Path(__file__).parents[1]
_HIDDEN = "[hidden]"
# Of an API key the id may be shown; of a presigned URL and of a URL with credentials, the address.
_PATTERNS = (
    (re.compile(r"\b(fw_key_[a-z2-7]{26})_[a-z2-7]+"), rf"\1_{_HIDDEN}"),
    (re.compile(r"\bwhsec_[A-Za-z0-9+/=_-]+"), f"whsec_{_HIDDEN}"),
    (re.compile(r"(\bBearer\s+)(?!fw_key_)[^\s\"']+", re.IGNORECASE), rf"\1{_HIDDEN}"),
    (re.compile(r"(\bX-Amz-(?:Signature|Credential|Security-Token)=)[^&\s\"']+"), rf"\1{_HIDDEN}"),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s@\"']*@"), rf"\1{_HIDDEN}@"),
)
# A secret shorter than this would be found in words that have nothing to do with it.
_SHORTEST = 6


class Redaction:
    """Called with a text, it gives back the text without secrets of `settings` and host paths."""

    def __init__(self, settings: Settings) -> None:
        shown = {str(_ROOT): "featherweight", sys.prefix: "python", sys.base_prefix: "python"}
        shown |= dict.fromkeys(_secrets(settings), _HIDDEN)
        # The longest first: a folder's name begins with its parent's.
        self._shown = sorted(shown.items(), key=lambda pair: -len(pair[0]))

    def __call__(self, text: str) -> str:
        for hidden, shown in self._shown:
            text = text.replace(hidden, shown)
        for pattern, shown in _PATTERNS:
            text = pattern.sub(shown, text)
        return text


def _secrets(settings: Settings) -> set[str]:
    values = {value.get_secret_value() for _, value in settings if isinstance(value, SecretStr)}
    password = urlsplit(settings.redis_url).password or ""
    return {value for value in values | {password, unquote(password)} if len(value) >= _SHORTEST}
