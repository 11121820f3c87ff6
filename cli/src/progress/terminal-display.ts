/**
 * Progress on a terminal: one block of lines at the bottom that is drawn over in place.
 *
 *   ✓ stages that ended            written once, then part of the scrollback
 *   ✓ …
 *   ▸ the stage that runs        ┐ the live block: moved up over, cleared, drawn again,
 *   · stages that wait           ┘ a few times a second and after a resize
 *
 * Only what cannot change any more leaves the block, so a list longer than the screen works, and whatever a person
 * scrolls back to is final. Not guaranteed: a terminal that re-wraps old lines on resize may keep a stale line.
 */
import { type Display, type DisplayStream, sizeOf } from './display.ts';
import { stageLine, titleWidthOf } from './stage-line.ts';
import type { StageView, Stages } from './stages.ts';
import type { Style } from '../text/style.ts';
import { columns } from '../text/width.ts';

const REDRAW_MS = 200;
const NARROWEST = 20;
const USUAL_COLUMNS = 80;
const USUAL_ROWS = 24;

export function terminalDisplay(stages: Stages, stream: DisplayStream, style: Style): Display {
  let settled = 0;
  let drawn: string[] = [];
  let closed = false;

  const width = (): number => Math.max(NARROWEST, sizeOf(stream, 'columns', USUAL_COLUMNS)) - 1;

  /** Back to the first line of the block, counted at the present width: a narrower terminal has wrapped the lines. */
  const erase = (): string => {
    const rows = drawn.reduce((sum, line) => sum + Math.max(1, Math.ceil(columns(line) / (width() + 1))), 0);
    return rows === 0 ? '' : `\u001b[${rows}A\r\u001b[J`;
  };

  const draw = (note?: string): void => {
    if (closed) return;
    const views = stages.view();
    const options = { style, width: width(), titleWidth: titleWidthOf(views, width()) };
    const final: string[] = note === undefined ? [] : [note];
    for (; isSettled(views[settled]); settled++) final.push(stageLine(views[settled] as StageView, options));
    const live = cut(
      views.slice(settled).map((view) => stageLine(view, options)),
      Math.max(1, sizeOf(stream, 'rows', USUAL_ROWS) - 2),
      style,
    );
    stream.write(erase() + [...final, ...live].map((line) => `${line}\n`).join(''));
    drawn = live;
  };

  const redraw = (): void => draw();
  const timer = setInterval(redraw, REDRAW_MS);
  timer.unref();
  stream.on?.('resize', redraw);
  stream.write('\u001b[?25l');
  // Whatever ends the process, the cursor comes back.
  const showCursor = (): void => void stream.write('\u001b[?25h');
  process.once('exit', showCursor);

  return {
    note(line) {
      if (closed) stream.write(`${line}\n`);
      else draw(line);
    },
    close() {
      if (closed) return;
      draw();
      closed = true;
      clearInterval(timer);
      stream.off?.('resize', redraw);
      process.off('exit', showCursor);
      showCursor();
    },
  };
}

function isSettled(view: StageView | undefined): boolean {
  return view?.state === 'done' || view?.state === 'failed' || view?.state === 'skipped';
}

/** As many lines as the screen holds; the running stage stands first, so what is left out are waiting ones. */
function cut(lines: readonly string[], rows: number, style: Style): string[] {
  if (lines.length <= rows) return [...lines];
  const kept = lines.slice(0, Math.max(0, rows - 1));
  return [...kept, style.dim(`  ${style.ellipsis} and ${lines.length - kept.length} more`)];
}
