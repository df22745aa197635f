"""The page's looks. Colours after Okabe and Ito, which all kinds of colour vision tell apart; never colour alone."""

from __future__ import annotations

CSS = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --raised: #f6f7f9; --ink: #16191d; --soft: #59616b; --rule: #dde1e6;
  --alive: #0072b2; --alive-fill: #0072b2cc; --silent: #e69f00; --remapped: #cc79a7; --dead: #d55e00;
  --green: #009e73; --band: #e69f0030; --good: #00694d; --bad: #b03a00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --raised: #1d2126; --ink: #e8eaed; --soft: #a2abb5; --rule: #343a42;
    --alive: #56b4e9; --alive-fill: #3a8fc4cc; --green: #1fb893; --dead: #ee7733; --band: #e69f0038;
    --good: #4fd0a5; --bad: #ff9a63;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 78rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; margin: 0; }
h3 { font-size: 1rem; margin: 0 0 .2rem; }
a { color: inherit; }
p { margin: .4rem 0; max-width: 60rem; }
.soft { color: var(--soft); font-size: .9rem; }
section { border-top: 1px solid var(--rule); margin-top: 2.5rem; padding-top: 1.5rem; }
.head { display: flex; flex-wrap: wrap; gap: .3rem 1rem; align-items: baseline; }
.verdict { font-weight: 650; white-space: nowrap; }
.verdict.good { color: var(--good); } .verdict.bad { color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .8rem; margin: 1.4rem 0; }
.tile { background: var(--raised); border-radius: .5rem; padding: .8rem 1rem; }
.tile b { display: block; font-size: 1.7rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile span { display: block; color: var(--soft); font-size: .9rem; }
.scroll { overflow-x: auto; }
table {
  border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; min-width: 46rem; width: 100%;
}
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { color: var(--soft); font-weight: 500; }
th.name, td.name { text-align: left; white-space: normal; min-width: 9rem; }
.charts {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 1.2rem; margin-top: 1rem;
}
figure { margin: 0; background: var(--raised); border-radius: .5rem; padding: 1rem; min-width: 0; }
figcaption { margin-bottom: .5rem; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .85rem; color: var(--soft); margin-top: .4rem; }
.legend svg { width: 1.5rem; height: .8rem; vertical-align: -.05rem; margin-right: .35rem; }
ul.notes { color: var(--soft); font-size: .9rem; padding-left: 1.1rem; margin: .8rem 0 0; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; font-size: .92rem; }
dt { font-weight: 600; } dd { margin: 0; color: var(--soft); }
figure > svg { display: block; width: 100%; height: auto; }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: var(--ink); }
svg text.tick, svg text.axis-title { fill: var(--soft); }
svg text.mark-name, svg text.value { font-weight: 600; }
.grid { stroke: var(--rule); stroke-width: 1; }
.axis { stroke: var(--soft); stroke-width: 1; }
.state.alive, .key.alive { fill: var(--alive-fill); }
.state.silent, .key.silent { fill: var(--silent); }
.state.remapped, .key.remapped { fill: url(#stripes); }
.state.dead, .key.dead { fill: url(#crosses); }
.rate.tcp, .key.tcp, .rate.moved { fill: var(--green); fill-opacity: .8; }
.rate.udp, .key.udp { fill: var(--green); fill-opacity: .35; }
.rate-line { fill: none; stroke: var(--green); stroke-width: 1; }
.band, .key.band { fill: var(--band); }
.fault { stroke: var(--ink); stroke-width: 1.6; }
.promotion { stroke: var(--ink); stroke-width: 1.6; stroke-dasharray: 2 3; }
.bar.was { fill: none; stroke: var(--soft); stroke-width: 1.2; }
.bar.is { fill: var(--alive-fill); stroke: var(--alive); stroke-width: 1.2; }
.curve { fill: none; stroke-width: 2.4; }
.dot { fill-opacity: .45; }
.median { stroke-width: 3; }
.ours-0 { stroke: var(--alive); color: var(--alive); }
.ours-1 { stroke: var(--green); color: var(--green); stroke-dasharray: 7 3; }
.other-0 { stroke: var(--dead); color: var(--dead); stroke-dasharray: 2 2; }
.other-1 { stroke: var(--silent); color: var(--silent); stroke-dasharray: 9 3 2 3; }
.other-2 { stroke: var(--remapped); color: var(--remapped); stroke-dasharray: 5 4; }
.other-3 { stroke: var(--soft); color: var(--soft); stroke-dasharray: 12 4; }
.dot { fill: currentColor; stroke-dasharray: none; } .median { stroke-dasharray: none; }
@media (max-width: 40rem) {
  body { padding: 1.2rem .8rem 3rem; }
  figure { padding: .7rem .5rem; }
  svg text { font-size: 16px; }
  dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; }
}
@media print { section { break-inside: avoid-page; } }
"""

PATTERNS = """<svg width="0" height="0" aria-hidden="true" style="position:absolute"><defs>
<pattern id="stripes" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<rect width="6" height="6" style="fill:var(--remapped)"/><rect width="2" height="6" style="fill:var(--paper)"/>
</pattern>
<pattern id="crosses" width="6" height="6" patternUnits="userSpaceOnUse">
<rect width="6" height="6" style="fill:var(--dead)"/><path d="M0 0L6 6M6 0L0 6" style="stroke:var(--paper)"/>
</pattern>
</defs></svg>"""
