"""What every part of the contract is made of."""

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

T = TypeVar("T")
Verdict = Literal["clean", "suspect"]
ReviewState = Literal["keep", "reject"]
Evidence = Literal["none", "weak", "strong"]
Interval = tuple[float, float]
# Control characters have no place in names, and PostgreSQL cannot store NUL.
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$")]


def _number(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError("a number is expected")  # noqa: TRY004 - pydantic reports only this one as invalid
    return value


# Pydantic takes true for 1 and "1" for 1; JSON has types, and a typo should not pass for one of them.
Number = BeforeValidator(_number)
Probability = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Page(BaseModel, Generic[T]):  # PEP 695 syntax needs Python 3.12
    items: list[T]
    next_cursor: str | None


class Health(BaseModel):
    status: Literal["ok", "not ready"]
    version: str
    checks: dict[str, str] = {}
