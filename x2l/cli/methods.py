"""`x2l methods`: what can stand in each slot."""

from __future__ import annotations

import click

from x2l.cli.options import plugin_option


@click.command(short_help="List backbones, compressors, oracles, selectors and data.")
@click.argument("slot", required=False)
@plugin_option
def methods(slot: str | None, plugins: tuple[str, ...]) -> None:
    """List every method by name, with one line and its source; SLOT lists those of one slot."""
    from x2l import registry

    for plugin in plugins:
        registry.load_plugin(plugin)
    # An unknown slot is refused by the registry.
    slots = [slot] if slot else list(registry.SLOTS)
    click.echo("\n\n".join("\n".join([click.style(each, bold=True), *_lines(each)]) for each in slots))


def _lines(slot: str) -> list[str]:
    from x2l import registry

    lines, width = [], max(map(len, registry.names(slot)))
    for name in registry.names(slot):
        line, source = registry.summary(slot, name)
        cls = registry.get(slot, name)
        lines.append(f"  {name:{width}} {line}")
        notes = {"source": source} | {
            key: ", ".join(sorted(getattr(cls, key, ()))) for key in ("requires", "provides")
        }
        lines += [f"  {'':{width}} {key}: {note}" for key, note in notes.items() if note]
    return lines
