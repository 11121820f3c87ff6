/** From what is seen of an operation to the stages a person sees. */
import type { Stage } from '@lifeboat/contracts/workflow/progress';
import type { Progress } from '@lifeboat/foundation/progress';
import type { Stages } from '../progress/stages.ts';
import type { ActivitySighting, Sighting } from './operation.ts';

const QUEUED = 'queue';

/** Every stage of the operation as a stage of its own: for a command that is one operation. */
export function followStages(stages: Stages): (sighting: Sighting) => void {
  return (sighting) => {
    if (sighting.kind === 'queued') {
      stages.begin(QUEUED, 'Wait for the machine');
      stages.update(QUEUED, { phase: queueText(sighting.ahead), doneBytes: 0 });
      return;
    }
    stages.end(QUEUED, 'done');
    for (const stage of sighting.status.stages) {
      stages.plan(stage.name, capitalised(stage.name));
      show(stages, stage, sighting.activity);
    }
  };
}

function show(stages: Stages, stage: Stage, activity: ActivitySighting | undefined): void {
  const note = stage.notes[0];
  const outcome = {
    ...(note === undefined ? {} : { note }),
    ...(stage.startedMs === undefined || stage.endedMs === undefined
      ? {}
      : { elapsedMs: stage.endedMs - stage.startedMs }),
  };
  switch (stage.state) {
    case 'pending':
      return;
    case 'running':
      stages.begin(stage.name, capitalised(stage.name));
      stages.update(stage.name, progressOf(activity));
      return;
    case 'done':
    case 'failed':
    case 'skipped':
      stages.end(stage.name, stage.state, outcome);
      return;
    case 'undone':
      stages.end(stage.name, 'failed', { ...outcome, note: outcome.note ?? 'undone' });
      return;
  }
}

/** The whole operation inside one stage: for the demo, where an operation is one step of many. */
export function followInside(stages: Stages, id: string): (sighting: Sighting) => void {
  return (sighting) => {
    if (sighting.kind === 'queued') {
      stages.update(id, { phase: queueText(sighting.ahead), doneBytes: 0 });
      return;
    }
    const running = sighting.status.stages.find((stage) => stage.state === 'running');
    if (!running) return;
    const progress = progressOf(sighting.activity);
    // "check" inside the stage "check" says nothing new.
    const inner = running.name.startsWith(progress.phase) ? '' : `, ${progress.phase}`;
    const phase = running.name + inner;
    stages.update(id, { ...progress, phase });
  };
}

function progressOf(activity: ActivitySighting | undefined): Progress {
  const { heartbeat } = activity ?? {};
  const retry =
    activity && activity.attempt > 1
      ? `attempt ${activity.attempt}${activity.lastFailure ? `, after: ${activity.lastFailure}` : ''}`
      : undefined;
  const detail = [heartbeat?.detail, retry].filter((part) => part !== undefined && part !== '').join(' ');
  return {
    phase: heartbeat?.phase ?? '',
    doneBytes: heartbeat?.doneBytes ?? 0,
    ...(heartbeat?.totalBytes === undefined ? {} : { totalBytes: heartbeat.totalBytes }),
    ...(detail === '' ? {} : { detail }),
  };
}

function queueText(ahead: number): string {
  return ahead === 0 ? 'starting' : ahead === 1 ? 'after one other operation' : `after ${ahead} other operations`;
}

function capitalised(name: string): string {
  return name.slice(0, 1).toUpperCase() + name.slice(1);
}
