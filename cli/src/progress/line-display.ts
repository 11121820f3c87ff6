/**
 * Progress for a pipe or a CI log: a line when a stage begins or ends, and between these at most one every few seconds,
 * and only when something moved or a minute has passed (a log that says nothing for long looks like a hang).
 */
import type { Clock } from '@lifeboat/foundation/clock';
import { formatDuration } from '@lifeboat/foundation/units';
import type { Style } from '../text/style.ts';
import { fit, printable } from '../text/width.ts';
import type { Display, DisplayStream } from './display.ts';
import { progressText } from './stage-line.ts';
import type { StageView, Stages } from './stages.ts';

const QUIET_MS = 10_000;
const ALIVE_MS = 60_000;
const JUST_BEGUN_MS = 1_000;
/** A log's line; what is longer is a command or a path in the detail. */
const LINE_COLUMNS = 160;

export function lineDisplay(stages: Stages, stream: DisplayStream, options: { style: Style; clock: Clock }): Display {
  const { style, clock } = options;
  const shown = new Map<string, { state: StageView['state']; text: string; atMs: number }>();
  let closed = false;

  const look = (): void => {
    const nowMs = clock.monotonicMs();
    for (const stage of stages.view()) {
      const before = shown.get(stage.id);
      const text = moving(stage);
      if (stage.state === 'waiting') continue;
      const changed = before?.state !== stage.state;
      const sinceMs = before ? nowMs - before.atMs : 0;
      const due = stage.state === 'running' && ((text !== before?.text && sinceMs >= QUIET_MS) || sinceMs >= ALIVE_MS);
      if (!changed && !due) continue;
      shown.set(stage.id, { state: stage.state, text, atMs: nowMs });
      stream.write(`${fit(lineOf(stage, style), LINE_COLUMNS, style.ellipsis)}\n`);
    }
  };

  const stop = stages.onChange(look);
  const timer = setInterval(look, 1_000);
  timer.unref();
  look();
  return {
    note: (line) => void stream.write(`${line}\n`),
    close() {
      if (closed) return;
      closed = true;
      look();
      stop();
      clearInterval(timer);
    },
  };
}

/** The part of a line that says something new: not the elapsed time, which always does. */
function moving(stage: StageView): string {
  return `${stage.progress?.phase ?? ''} ${stage.progress?.detail ?? ''} ${stage.progress?.doneBytes ?? ''}`;
}

function lineOf(stage: StageView, style: Style): string {
  const running = stage.state === 'running';
  const elapsed =
    stage.elapsedMs === undefined || (running && stage.elapsedMs < JUST_BEGUN_MS)
      ? ''
      : ` (${formatDuration(stage.elapsedMs)})`;
  const rest = running ? progressText(stage) : printable(stage.note ?? '');
  return `${style.marks[stage.state]} ${printable(stage.title)}${elapsed}${rest && `: ${rest}`}`;
}
