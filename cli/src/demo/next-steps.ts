/** How to go on, as commands that can be pasted. */
import type { Report } from './report.ts';

export function nextSteps(run: {
  readonly kept: boolean;
  readonly stateRoot: string;
  readonly guest: string;
  readonly newMachine: string | undefined;
  readonly target: string;
}): Report['next'] {
  const { kept, stateRoot, guest, newMachine, target } = run;
  if (!kept) {
    return [
      {
        purpose: 'The same on other hardware, and everything kept for a look',
        command: `npm run demo -- --target ${target === 'nvme' ? 'virtio-blk' : 'nvme'} --keep`,
      },
      { purpose: 'Back up a machine of your own', command: 'npm run lifeboat -- backup MACHINE' },
    ];
  }
  const lifeboat = `LIFEBOAT_STATE=${shellWord(stateRoot)} npm run lifeboat --`;
  return [
    { purpose: 'The recovery points of this run', command: `${lifeboat} points` },
    { purpose: 'Another backup of the machine, which runs', command: `${lifeboat} backup ${guest}` },
    { purpose: 'Prove the newest point again', command: `${lifeboat} verify ${guest}` },
    ...(newMachine === undefined
      ? []
      : [{ purpose: 'The console of the new machine; Ctrl-] leaves it', command: `virsh console ${newMachine}` }]),
    { purpose: 'Remove all that was kept', command: 'npm run lifeboat -- demo --clean' },
  ];
}

function shellWord(text: string): string {
  return /^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
