/** How long the injection of drivers into a freshly restored disk takes, from opening it to the last durable byte. */
import { copyFile, constants, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pausedGuest } from '../bench-guest.ts';
import type { BenchLab } from '../bench-lab.ts';
import { type Figure, median } from '../series.ts';

const PROFILE = 'virtio-blk';
const GOAL_SECONDS = 2;

export async function injectFigure(lab: BenchLab, repeat: number): Promise<Figure> {
  const { engine } = lab.host;
  const guest = await pausedGuest(lab);
  const machine = guest.name;
  const { pointId } = await engine.captureMachine({ opId: lab.opId('full'), machine }, lab.context);
  await guest.remove();
  const directory = await lab.directory('restored');
  const target = { kind: 'directory', directory, name: 'fresh' } as const;
  const restored = await engine.restoreDisks({ opId: lab.opId('restore'), machine, pointId, target }, lab.context);
  const injections: number[] = [];
  const wholes: number[] = [];
  let installed: readonly { modules: readonly string[]; addedBytes: number }[] = [];
  for (let round = 0; round < repeat; round++) {
    lab.say(`inject: round ${round + 1} of ${repeat}`);
    const disks = [];
    for (const disk of restored.disks) {
      const path = join(directory, `copy-${round}-${disk.name}.qcow2`);
      await copyFile(disk.path, path, constants.COPYFILE_FICLONE);
      disks.push({ ...disk, path });
    }
    const input = { opId: lab.opId('redeploy'), machine, pointId, disks, profile: PROFILE };
    const summary = await engine.applyRedeploy(input, lab.context);
    injections.push(summary.injectionMs / 1000);
    wholes.push(summary.durationMs / 1000);
    installed = summary.installed;
    for (const { path } of disks) await rm(path);
  }
  const modules = installed.reduce((sum, kernel) => sum + kernel.modules.length, 0);
  const addedBytes = installed.reduce((sum, kernel) => sum + kernel.addedBytes, 0);
  const unit = { unit: 's', digits: 2 };
  return {
    title: 'Injection of drivers',
    method: [
      `A restored qcow2 of the demo's guest, copied for each round; the verb applyRedeploy for '${PROFILE}'; the initrd then holds ${modules} modules and is ${addedBytes} bytes larger`,
      'Injection: from opening the disk to the last byte durable on it, file system checks before and after included; the whole verb also inspects and plans',
    ],
    series: [
      { label: 'Injection', ...unit, values: injections },
      { label: 'Whole verb', ...unit, values: wholes },
    ],
    verdicts: [{ label: 'Injection, median', ...unit, value: median(injections), below: GOAL_SECONDS }],
  };
}
