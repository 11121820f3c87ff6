/** The report's one style sheet: two colour schemes, a narrow layout, and paper. */
export const REPORT_STYLE = `
:root {
  color-scheme: light dark;
  --paper: #fbfbfa; --card: #ffffff; --ink: #1d2327; --soft: #5c666e; --line: #e1e4e6;
  --good: #1a7f4b; --good-soft: #e6f4ec; --bad: #b3261e; --bad-soft: #fbe9e7; --warn: #8a5a00; --warn-soft: #fdf3dc;
  --mono: ui-monospace, "SF Mono", "DejaVu Sans Mono", Menlo, Consolas, monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15181b; --card: #1c2024; --ink: #e4e7e9; --soft: #9aa4ac; --line: #2e353b;
    --good: #5cc48d; --good-soft: #16301f; --bad: #f2867e; --bad-soft: #3a1d1b; --warn: #e2b45c; --warn-soft: #33280f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.65rem; line-height: 1.25; margin: 0 0 .4rem; text-wrap: balance; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .8rem; }
h3 { font-size: 1rem; margin: 0; }
p { margin: .4rem 0; }
.soft { color: var(--soft); }
.verdict { border: 1px solid var(--line); border-left: .4rem solid var(--soft); border-radius: .5rem; padding: 1.1rem 1.3rem; background: var(--card); }
.verdict.good { border-left-color: var(--good); }
.verdict.bad { border-left-color: var(--bad); }
.verdict.incomplete { border-left-color: var(--warn); }
.kicker { font-size: .85rem; color: var(--soft); margin: 0 0 .3rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .8rem; margin: 1rem 0 0; padding: 0; list-style: none; }
.figures li { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem; }
.figures .value { font-size: 1.45rem; font-weight: 600; font-variant-numeric: tabular-nums; white-space: nowrap; }
.figures .name { font-weight: 600; font-size: .9rem; }
.figures .meaning { font-size: .85rem; color: var(--soft); margin: .1rem 0 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-size: .82rem; font-weight: 600; color: var(--soft); }
td.number, th.number { text-align: right; white-space: nowrap; }
td small { color: var(--soft); font-size: .82rem; }
.step { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem 1.2rem; margin: 0 0 .9rem; }
.step > header { display: flex; gap: .6rem; align-items: baseline; }
.step > header .time { margin-left: auto; color: var(--soft); white-space: nowrap; font-variant-numeric: tabular-nums; }
.mark { font-weight: 700; flex: none; width: 1.1em; }
.mark.good { color: var(--good); } .mark.bad { color: var(--bad); } .mark.none { color: var(--soft); }
.checks { list-style: none; margin: .7rem 0 0; padding: 0; }
.checks li { display: flex; gap: .6rem; padding: .3rem .6rem; border-radius: .35rem; margin-bottom: .25rem; background: var(--good-soft); }
.checks li.bad { background: var(--bad-soft); }
.checks .detail { color: var(--soft); font-size: .88rem; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .15rem 1.2rem; margin: .7rem 0 0; font-size: .93rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.caption { font-size: .85rem; color: var(--soft); margin: .9rem 0 .3rem; }
pre {
  font: .8rem/1.45 var(--mono); margin: 0; padding: .7rem .9rem; border: 1px solid var(--line); border-radius: .35rem;
  background: var(--paper); white-space: pre-wrap; overflow-wrap: anywhere;
}
code { font-family: var(--mono); font-size: .88em; }
.shots { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: .8rem; }
figure { margin: .9rem 0 0; max-width: 34rem; }
figure img { display: block; width: 100%; height: auto; border: 1px solid var(--line); border-radius: .35rem; background: #000; }
figcaption { font-size: .85rem; color: var(--soft); margin-top: .3rem; }
.bar { height: .4rem; border-radius: .2rem; background: var(--line); min-width: 4rem; margin-top: .55rem; }
.bar span { display: block; height: 100%; border-radius: .2rem; background: var(--soft); min-width: 2px; }
td.wide { width: 45%; }
@media (max-width: 34rem) {
  main { padding: 1.2rem .8rem 3rem; }
  h1 { font-size: 1.35rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .4rem; }
  .step { padding: .8rem .9rem; }
  td.wide, th.wide { display: none; }
  .points thead { display: none; }
  .points tr { display: block; border-bottom: 1px solid var(--line); padding: .4rem 0; }
  .points td { display: block; border: 0; padding: .1rem 0; }
  .points td.number { display: flex; justify-content: space-between; }
  .points td.number::before { content: attr(data-label); color: var(--soft); font-size: .85rem; }
}
@media print {
  :root { --paper: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #bbb; --good: #0b5a32; --bad: #8c1d18; }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  .figures li, .checks li, figure, tr { break-inside: avoid; }
  h2, .step > header { break-after: avoid; }
  figure { max-width: 24rem; }
  .verdict, .checks li { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
`;
