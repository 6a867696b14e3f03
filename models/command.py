"""`quire models` and `quire settings`."""

import json

from cluster.command_options import (
    Json,
    command,
    command_group,
    escape_text,
    print_rows,
    wide_console,
)
from cluster.settings import Settings, load_settings

app = command_group()


@command(app)
def models(json_: Json = False) -> None:
    """List the models that Quire knows, with parameters and memory; --json has the rest."""
    from cluster.capacity.formulas import weight_bytes
    from models.registry import registry

    rows = []
    for spec in registry.specs.values():
        gib = {
            precision: round(weight_bytes(spec.shape, precision) / 2**30, 2)
            for precision in ("fp32", "bf16", "int8", "nf4")
        }
        rows.append(
            {
                "model": spec.name,
                "kind": spec.kind,
                "parameters": spec.shape.parameters.total,
                "dimensions": spec.dimension,
                "max_pixels": spec.max_pixels,
                **gib,
                "checkpoint": spec.checkpoint,
                "revision": spec.revision,
                "note": spec.note,
            }
        )
    columns = ("model", "kind", "parameters", "fp32", "bf16", "int8", "nf4")
    print_rows(rows, json_, empty="", columns=columns)
    if not json_:
        print("\nfp32 to nf4: GiB of weights; activations come on top.")


@command(app)
def settings(json_: Json = False) -> None:
    """List every setting with its value here and what it does."""
    values = load_settings().model_dump(mode="json")
    rows = [
        {"setting": name, "value": values[name], "meaning": field.description}
        for name, field in Settings.model_fields.items()
    ]
    if json_:
        print_rows(rows, json_, empty="")
        return
    console = wide_console()
    for row in rows:
        value = escape_text(json.dumps(row["value"], ensure_ascii=False))
        console.print(
            f"[bold]{row['setting']}[/] = {value}\n    {escape_text(str(row['meaning']))}"
        )
