/** What an incremental stores against what the dirty bitmap holds, after new incompressible files in the running guest. */
import type { CapturedDisk } from '@lifeboat/engine/verbs';
import { runningGuest } from '../bench-guest.ts';
import type { BenchLab } from '../bench-lab.ts';
import { type Figure, median, pairRatios } from '../series.ts';

const FILES = 10;
const FILE_BYTES = 10_000_000;
const GOAL = 1.5;

export async function incrementalFigure(lab: BenchLab, repeat: number): Promise<Figure> {
  const { engine } = lab.host;
  lab.say('incremental: booting the guest');
  const guest = await runningGuest(lab);
  lab.say('incremental: full backup');
  await engine.captureMachine({ opId: lab.opId('full'), machine: guest.name }, lab.context);
  const taken: CapturedDisk[] = [];
  for (let round = 0; round < repeat; round++) {
    lab.say(`incremental: round ${round + 1} of ${repeat}`);
    const directory = `/srv/bench-${round}`;
    await guest.run(
      `mkdir -p ${directory} && for i in $(seq ${FILES}); do head -c ${FILE_BYTES} /dev/urandom > ${directory}/$i || exit 1; done; sync`,
    );
    const { disks } = await engine.captureMachine({ opId: lab.opId('incremental'), machine: guest.name }, lab.context);
    const [disk] = disks;
    if (disk?.method !== 'incremental') {
      throw new Error(`the backup after the change was no incremental: ${disk?.method}, ${disk?.reason}`);
    }
    taken.push(disk);
  }
  await guest.remove();

  const megabytes = (field: 'storedBytes' | 'changedBytes' | 'touchedBytes' | 'auditedBytes'): number[] =>
    taken.map((disk) => disk[field] / 1e6);
  const stored = megabytes('storedBytes');
  const changed = megabytes('changedBytes');
  const unit = { unit: 'MB', digits: 1 };
  return {
    title: 'Incremental: bytes stored against bytes of the dirty bitmap',
    method: [
      `Guest: the demo's, running, ext4; each round writes ${FILES} new files of ${FILE_BYTES / 1e6} MB from /dev/urandom, \`sync\`, then the verb captureMachine`,
      'Stored: sealed bytes of new chunks; bitmap: what QEMU reports dirty since the point before, journal and metadata of the file system included',
    ],
    series: [
      { label: 'Stored', ...unit, values: stored },
      { label: 'Dirty bitmap', ...unit, values: changed },
      { label: 'Chunks the bitmap touches', ...unit, values: megabytes('touchedBytes') },
      { label: 'Read for the audit', ...unit, values: megabytes('auditedBytes') },
      { label: 'Stored / dirty bitmap', unit: '', digits: 3, values: pairRatios(stored, changed) },
    ],
    verdicts: [
      {
        label: 'Stored / dirty bitmap, median',
        unit: '',
        digits: 3,
        value: median(pairRatios(stored, changed)),
        below: GOAL,
      },
    ],
  };
}
