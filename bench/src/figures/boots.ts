/** Several boot tests at once against the same ones one after another, by turns. */
import { pausedGuest } from '../bench-guest.ts';
import type { BenchLab } from '../bench-lab.ts';
import { type Figure, median, pairRatios } from '../series.ts';

const READY = 'GUEST-BOOT-OK';
/** All of them share the cores. */
const BOOT_LIMIT_MS = 1_200_000;
const AT_ONCE = 4;
const GOAL = 0.7;

export async function bootsFigure(lab: BenchLab, repeat: number): Promise<Figure> {
  const { engine } = lab.host;
  const guest = await pausedGuest(lab);
  const machine = guest.name;
  const { pointId } = await engine.captureMachine({ opId: lab.opId('full'), machine }, lab.context);
  await guest.remove();

  const cpuSeconds: number[] = [];
  const boot = async (): Promise<void> => {
    const opId = lab.opId('boot');
    const source = { kind: 'point', pointId } as const;
    const summary = await engine.bootTest(
      { opId, machine, source, readyPattern: READY, timeoutMs: BOOT_LIMIT_MS },
      lab.context,
    );
    if (summary.finding !== 'ready') throw new Error(`the guest did not boot: ${summary.explanation}`);
    cpuSeconds.push(summary.guestCpuMs / 1000);
    await engine.abandonOperation({ opId, removeTargets: true }, lab.context);
  };
  const seconds = async (run: () => Promise<void>): Promise<number> => {
    const startedMs = performance.now();
    await run();
    return (performance.now() - startedMs) / 1000;
  };
  const each = Array.from({ length: AT_ONCE }, () => boot);
  const inTurn = async (): Promise<void> => {
    for (const one of each) await one();
  };
  const together = async (): Promise<void> => void (await Promise.all(each.map((one) => one())));

  const times = { inTurn: [] as number[], together: [] as number[] };
  for (let pair = 0; pair < repeat; pair += 1) {
    lab.say(`boots: pair ${pair + 1} of ${repeat}`);
    for (const way of pair % 2 === 0 ? (['inTurn', 'together'] as const) : (['together', 'inTurn'] as const))
      times[way].push(await seconds(way === 'inTurn' ? inTurn : together));
  }
  const unit = { unit: 's', digits: 1 };
  return {
    title: `${AT_ONCE} boot tests at once against one after another`,
    method: [
      "Guest: the demo's, on AHCI as captured, 1 vCPU, until its console says that multi-user.target is reached",
      'Each test whole: exporter, overlay, start, watch, pictures, packets, evidence, removal; wall clock from the first to the last',
    ],
    series: [
      { label: 'One after another', ...unit, values: times.inTurn },
      { label: 'At once', ...unit, values: times.together },
      { label: 'CPU of a guest', ...unit, values: cpuSeconds },
      { label: 'Ratio', unit: '', digits: 3, values: pairRatios(times.together, times.inTurn) },
    ],
    verdicts: [
      {
        label: 'At once / one after another, medians',
        unit: '',
        digits: 3,
        value: median(times.together) / median(times.inTurn),
        below: GOAL,
      },
    ],
  };
}
