"""`x2l methods`: what can stand in each slot."""

from __future__ import annotations

import click

from x2l.cli.options import plugin_option


@click.command(short_help="List backbones, compressors, oracles, selectors and data.")
@click.argument("slot", required=False)
@click.option("--markdown", is_flag=True, help="A table for each slot, as docs/methods.md has them.")
@plugin_option
def methods(slot: str | None, markdown: bool, plugins: tuple[str, ...]) -> None:
    """List every method by name, with one line and its source; SLOT lists those of one slot."""
    from x2l import registry

    for plugin in plugins:
        registry.load_plugin(plugin)
    # An unknown slot is refused by the registry.
    slots = [slot] if slot else list(registry.SLOTS)
    click.echo("\n\n".join("\n".join((_table if markdown else _list)(each)) for each in slots))


def _list(slot: str) -> list[str]:
    entries = _entries(slot)
    lines, width = [click.style(slot, bold=True)], max(map(len, entries))
    for name, (line, notes) in entries.items():
        lines.append(f"  {name:{width}} {line}")
        lines += [f"  {'':{width}} {key}: {note}" for key, note in notes.items() if note]
    return lines


def _table(slot: str) -> list[str]:
    lines = [f"## {slot}", "", "| name | what it is | requires | source |", "|---|---|---|---|"]
    for name, (line, notes) in _entries(slot).items():
        cells = (f"`{name}`", line, notes["requires"], notes["source"])
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _entries(slot: str) -> dict[str, tuple[str, dict[str, str]]]:
    """What each method of a slot is, in one line, and notes on it, by its name."""
    from x2l import registry

    entries = {}
    for name in registry.names(slot):
        line, source = registry.summary(slot, name)
        said = registry.outline(slot, name)
        features = {"requires": registry.required(said), "provides": getattr(said, "provides", ())}
        listed = {key: ", ".join(sorted(capabilities)) for key, capabilities in features.items()}
        entries[name] = line, {"source": source, **listed}
    return entries
