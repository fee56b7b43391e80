"""Types of a record's fields, with the limits that each value must keep."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from backbench.leaderboard.record.privacy import without_paths

# Far beyond any real value, and far below where sums and squares overflow.
MOST, MOST_COUNTED = 1e12, 10**15
Count = Annotated[int, Field(ge=0, le=MOST_COUNTED)]
Positive = Annotated[int, Field(ge=1, le=MOST_COUNTED)]
Amount = Annotated[float, Field(ge=0, le=MOST)]
Seed = Annotated[int, Field(ge=0, lt=2**64)]
Flops = Annotated[float, Field(ge=0, le=MOST_COUNTED)]
Value = Annotated[float, Field(ge=-MOST, le=MOST)]
Loss = Annotated[float, Field(ge=-3.5e38, le=3.5e38)]  # what float32 holds: training may recover from there
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, pattern=r"^[^\s/\\](.*\S)?$")]
# Free text and free mappings lose absolute paths when a record is built: a published record names no user's folders.
Text = Annotated[str, AfterValidator(without_paths)]
Mapping = Annotated[dict[str, JsonValue], AfterValidator(without_paths)]


class Part(BaseModel):
    """Base of every part of a record. It refuses unknown fields, NaN, infinities and later changes."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True, protected_namespaces=()
    )


def close(value: float, expected: float, scale: float) -> bool:
    """Equal up to a mean taken in another order in float64. Means in float32 (1e-7 relative) pass as well."""
    return abs(value - expected) <= 1e-6 * max(1.0, scale)
