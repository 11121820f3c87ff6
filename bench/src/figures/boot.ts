/** Booting straight from the repository against the same boot from a local qcow2 of the same point, pair by pair. */
import type { BootTestInput, BootTestSummary } from '@lifeboat/engine/verbs';
import { pausedGuest } from '../bench-guest.ts';
import type { BenchLab } from '../bench-lab.ts';
import { type Figure, median, pairRatios } from '../series.ts';

/** What the guest prints once multi-user.target is reached; see scripts/build-guest.sh. */
const READY = 'GUEST-BOOT-OK';
const BOOT_LIMIT_MS = 600_000;
const GOAL = 1.3;

export async function bootFigure(lab: BenchLab, repeat: number): Promise<Figure> {
  const { engine } = lab.host;
  const guest = await pausedGuest(lab);
  const machine = guest.name;
  const { pointId } = await engine.captureMachine({ opId: lab.opId('full'), machine }, lab.context);
  await guest.remove();
  const { disks } = await engine.restoreDisks(
    {
      opId: lab.opId('restore'),
      machine,
      pointId,
      target: { kind: 'directory', directory: await lab.directory('restored'), name: 'local' },
    },
    lab.context,
  );

  const boot = async (source: BootTestInput['source']): Promise<BootTestSummary> => {
    const summary = await engine.bootTest(
      { opId: lab.opId('boot'), machine, source, readyPattern: READY, timeoutMs: BOOT_LIMIT_MS },
      lab.context,
    );
    if (summary.finding !== 'ready') throw new Error(`the guest did not boot: ${summary.explanation}`);
    return summary;
  };
  const ours: BootTestSummary[] = [];
  const theirs: BootTestSummary[] = [];
  const bootOurs = async (): Promise<void> => void ours.push(await boot({ kind: 'point', pointId }));
  const bootTheirs = async (): Promise<void> => void theirs.push(await boot({ kind: 'disks', pointId, disks }));
  for (let pair = 0; pair < repeat; pair++) {
    lab.say(`boot: pair ${pair + 1} of ${repeat}`);
    // Who begins alternates, so that neither side always follows the other.
    for (const run of pair % 2 === 0 ? [bootOurs, bootTheirs] : [bootTheirs, bootOurs]) await run();
  }

  const seconds = (summaries: readonly BootTestSummary[], pick: (summary: BootTestSummary) => number): number[] =>
    summaries.map((summary) => pick(summary) / 1000);
  const cost = ({ guestCpuMs, readWaitMs }: BootTestSummary): number => guestCpuMs + readWaitMs;
  const costs = { ours: seconds(ours, cost), theirs: seconds(theirs, cost) };
  const unit = { unit: 's', digits: 2 };
  return {
    title: 'Boot from the repository against a local qcow2',
    method: [
      "Guest: the demo's, on AHCI as captured, 1 vCPU, until its console says that multi-user.target is reached",
      'Repository: overlay on our NBD export of the point, a fresh exporter each time; local: overlay on the restored qcow2 of the same point',
      'Cost: CPU seconds of the guest plus the time its reads waited for storage',
    ],
    series: [
      { label: 'Repository, cost', ...unit, values: costs.ours },
      { label: 'Local qcow2, cost', ...unit, values: costs.theirs },
      { label: 'Repository, waiting for storage', ...unit, values: seconds(ours, (boot) => boot.readWaitMs) },
      { label: 'Local qcow2, waiting for storage', ...unit, values: seconds(theirs, (boot) => boot.readWaitMs) },
      { label: 'Repository, wall clock', ...unit, values: seconds(ours, (boot) => boot.elapsedMs) },
      { label: 'Local qcow2, wall clock', ...unit, values: seconds(theirs, (boot) => boot.elapsedMs) },
      {
        label: 'Read by the guest, repository',
        unit: 'MB',
        digits: 1,
        values: ours.map((boot) => boot.readBytes / 1e6),
      },
      { label: 'Ratio of costs', unit: '', digits: 3, values: pairRatios(costs.ours, costs.theirs) },
    ],
    verdicts: [
      {
        label: 'Cost, ratio of medians',
        unit: '',
        digits: 3,
        value: median(costs.ours) / median(costs.theirs),
        below: GOAL,
      },
    ],
  };
}
