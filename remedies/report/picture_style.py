"""How pictures look: the colours of a page, light and dark, and what draws with them.

A page has both before its own style, a picture in a file of its own inside it.
"""

COLOURS = """\
:root {
  color-scheme: light dark;
  --paper: #fbfaf7; --card: #fff; --ink: #1b1d1f; --soft: #55595f; --rule: #e2dfd7;
  --accent: #0b5394; --wash: #f3f1ec;
  --bad: #9b1c1c; --bad-wash: #fcebe8; --warn: #744600; --warn-wash: #fbf0da;
  --dim: #4b5259; --dim-wash: #eceef0;
  --good: #1a5e37; --good-wash: #e4f3e9; --calm: #35496b; --calm-wash: #e8edf6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #121417; --card: #191c20; --ink: #e8e6e1; --soft: #a8adb4; --rule: #2c3036;
    --accent: #8cbcf0; --wash: #1f2328;
    --bad: #ffb3aa; --bad-wash: #3a1917; --warn: #f2c572; --warn-wash: #35290f;
    --dim: #b8bfc6; --dim-wash: #262b30;
    --good: #93d7ac; --good-wash: #15301f; --calm: #b3c6e8; --calm-wash: #1e2939;
  }
}
"""
PICTURES = """\
.picture text { fill: var(--ink); font-size: 12px; }
.stop { fill: var(--card); stroke: var(--soft); stroke-width: 1; }
.stop.nat, .stop.rule { fill: var(--wash); }
.stop.dead { stroke: var(--bad); stroke-width: 1.6; }
.picture .dies { fill: var(--bad); font-size: 11px; font-weight: 700; text-anchor: end; }
.picture .stop-title { font-weight: 640; font-size: 12.5px; }
.picture .stop-line {
  font: 11.5px ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace;
  white-space: pre; fill: var(--soft);
}
.walk { fill: none; stroke-width: 2; stroke: var(--accent); }
.walk.lost { stroke: var(--bad); stroke-dasharray: 5 4; }
.walk.harm { stroke: var(--warn); stroke-dasharray: 1.5 4; stroke-linecap: round; stroke-width: 3; }
.pass { fill: var(--accent); } .pass.lost { fill: var(--bad); } .pass.harm { fill: var(--warn); }
.tip {
  fill: none; stroke: var(--accent); stroke-width: 2;
  stroke-linejoin: round; stroke-linecap: round;
}
.tip.harm { stroke: var(--warn); }
.cross { stroke: var(--bad); stroke-width: 3.4; stroke-linecap: round; fill: none; }
.mark { fill: var(--accent); } .mark.lost { fill: var(--bad); } .mark.harm { fill: var(--warn); }
.picture .mark-text { fill: var(--card); font-size: 11px; font-weight: 700; text-anchor: middle; }
.axis { stroke: var(--rule); } .curve { fill: none; stroke: var(--accent); stroke-width: 2; }
.deed-line { stroke: var(--soft); stroke-dasharray: 3 3; fill: none; }
.point { fill: var(--accent); } .point.before { fill: var(--bad); }
.picture .value { text-anchor: middle; font-weight: 640; }
.picture .when, .picture .deed-text { text-anchor: middle; font-size: 11px; fill: var(--soft); }
"""
