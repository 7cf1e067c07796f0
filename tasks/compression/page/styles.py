"""The page's style sheet: light, or dark where the reader's system is; charts take the text's colour."""

from __future__ import annotations

__all__ = ["STYLES"]

STYLES = """
:root { color-scheme: light dark; --text: #1b1f24; --dim: #5b6470; --line: #d5dae0; --back: #ffffff;
  --card: #f6f8fa; --good: #1a7f4b; --bad: #b42318; --warn: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ed; --dim: #9aa4b0; --line: #3a424c;
  --back: #14181d; --card: #1d232a; --good: #4cc38a; --bad: #ff8a7a; --warn: #e3b341; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.5rem 4rem; max-width: 76rem; background: var(--back);
  color: var(--text); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .5rem; }
p { margin: .25rem 0 .75rem; } .dim { color: var(--dim); }
.verdict { font-weight: 600; } .verdict.good { color: var(--good); } .verdict.bad { color: var(--bad); }
.verdict.warn { color: var(--warn); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { text-align: left; padding: .3rem .45rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--dim); font-weight: 600; white-space: nowrap; } td.number, th.number { text-align: right; }
td.number { white-space: nowrap; } td.long { overflow-wrap: break-word;
  max-width: 40rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1rem; }
figure { margin: 0; padding: .75rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; }
figcaption { font-size: .85rem; color: var(--dim); }
figure svg { width: 100%; height: auto; display: block; color: var(--text); }
ul.warnings { padding-left: 1.1rem; } code { font-size: .85em; overflow-wrap: anywhere; }
@media (max-width: 30rem) { .charts { grid-template-columns: 1fr; } body { padding: 1rem; } }
@media print { body { max-width: none; } figure { break-inside: avoid; } }
"""
