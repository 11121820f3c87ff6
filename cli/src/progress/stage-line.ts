/**
 * One stage as one line:
 *
 *   ✓ Full backup                                                   34.2 s   read 402 MiB, stored 171 MiB
 *   ▸ Boot from the repository                                      12.0 s   boot test: 112 MiB, 9.10 MiB/s (loading Linux)
 *   · Restore as a new machine
 */
import { formatBytes, formatDuration } from '@lifeboat/foundation/units';
import type { Style } from '../text/style.ts';
import { columns, fit, padEnd, printable } from '../text/width.ts';
import type { StageView } from './stages.ts';

/** Below this, "about 0 ms left" would only say that it is not over yet. */
const LEAST_REMAINING_MS = 1_000;

/** What the running stage is doing, as far as it is known: `write: 212 MiB of 1.50 GiB, 98.0 MiB/s, about 13 s left (vda)`. */
export function progressText(stage: StageView): string {
  const { progress } = stage;
  if (!progress) return '';
  const bytes: string[] = [];
  if (progress.totalBytes !== undefined && progress.totalBytes > 0) {
    bytes.push(`${formatBytes(progress.doneBytes)} of ${formatBytes(progress.totalBytes)}`);
  } else if (progress.doneBytes > 0) {
    bytes.push(formatBytes(progress.doneBytes));
  }
  if (progress.doneBytes > 0 && stage.rateBytesPerSecond !== undefined) {
    bytes.push(stage.rateBytesPerSecond >= 1 ? `${formatBytes(stage.rateBytesPerSecond)}/s` : 'no bytes just now');
  }
  if (stage.remainingMs !== undefined && stage.remainingMs >= LEAST_REMAINING_MS)
    bytes.push(`about ${formatDuration(stage.remainingMs)} left`);
  const position = [printable(progress.phase), bytes.join(', ')].filter(Boolean).join(': ');
  // Last, because it is the longest, and what a narrow terminal cuts off.
  const detail = printable(progress.detail ?? '');
  return position && detail ? `${position} (${detail})` : position || detail;
}

/** The line of a stage, at most `width` columns, titles padded to `titleWidth` so that the rest stands in a column. */
export function stageLine(stage: StageView, options: { style: Style; width: number; titleWidth: number }): string {
  const { style, width, titleWidth } = options;
  const mark = padEnd(style.marks[stage.state], columns(style.marks.done));
  const title = printable(stage.title);
  const elapsed = stage.elapsedMs === undefined ? '' : formatDuration(stage.elapsedMs).padStart(10);
  const rest = stage.state === 'running' ? progressText(stage) : printable(stage.note ?? '');
  const head = `${mark} ${rest || elapsed ? padEnd(title, titleWidth) : title}`;
  const plain = [head + (elapsed && `  ${elapsed}`), rest].filter(Boolean).join('   ');
  const line = fit(plain, width, style.ellipsis);
  const paint: Record<StageView['state'], (text: string) => string> = {
    done: (text) => text.replace(mark, (found) => style.good(found)),
    running: (text) => text.replace(mark, (found) => style.bold(found)),
    failed: style.bad,
    waiting: style.dim,
    skipped: style.dim,
  };
  return paint[stage.state](line);
}

/** The width all titles fit in, at most half of the terminal. */
export function titleWidthOf(stages: readonly StageView[], width: number): number {
  return Math.min(Math.floor(width / 2), Math.max(0, ...stages.map((stage) => columns(printable(stage.title)))));
}
