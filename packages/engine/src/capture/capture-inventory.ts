/**
 * The inventory that a point brings with it, taken from the exports of the backup job while the disks are read.
 *
 *   job begins ─► disks are read ────────────────────► commit
 *            └─► inventory: its own connections ─► ┘ waited for at most GRACE_MS more, then given up
 *
 * Here, because a point is whole when it is committed and never changed after. Not after the job, because a job is ended only when
 * its point is there. A machine that cannot be looked at is backed up all the same, and the point says why.
 */
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import { formatBytes, MiB } from '@lifeboat/foundation/units';
import { systemUnpackers } from '@lifeboat/guest/access/system-unpackers';
import { takeInventory } from '@lifeboat/guest/inventory/take-inventory';
import type { BackupJob, MachineDescription } from '@lifeboat/hypervisor/port';
import { NbdClient } from '@lifeboat/nbd/client';
import type { Point } from '@lifeboat/repository/read/point-reader';
import type { EngineDeps } from '../deps.ts';
import { hardwareOf } from '../inspect/hardware-of.ts';
import { storedInventory } from '../inspect/stored-inventory.ts';

/** What an incremental of few changes may be held up; a machine of two disks needs some 30 ms. */
const GRACE_MS = 2000;
/** Sixteen times that of a machine with a hundred volumes. The files of a point have 8 MiB together. */
const MAX_INVENTORY_BYTES = MiB;

type Taken = { readonly content: Uint8Array } | { readonly problem: string };
/** `readBytes`: from the exports, beside what the disks' own reading took. */
export type InventoryOutcome = Taken & { readonly readBytes: number };

interface InventoryInput {
  readonly job: Pick<BackupJob, 'disks'>;
  readonly machine: MachineDescription;
  /** The machine's point before: what was not written to since is not unpacked again. */
  readonly parent: Pick<Point, 'files'> | undefined;
}

export interface PendingInventory {
  /** Never rejects. Afterwards no connection is open. */
  finish(): Promise<InventoryOutcome>;
  /** For a capture that fails: at once. Idempotent, and after `finish` too. */
  cancel(): Promise<void>;
}

export function beginInventory(
  deps: Pick<EngineDeps, 'clock' | 'log'>,
  input: InventoryInput,
  signal: AbortSignal,
): PendingInventory {
  const giveUp = new AbortController();
  const own = AbortSignal.any([signal, giveUp.signal]);
  let readBytes = 0;
  const count = (bytes: number): void => void (readBytes += bytes);
  const outcome = take(deps, { ...input, count }, own).catch((error: unknown): Taken => ({
    problem: messageOf(error),
  }));
  return {
    async finish() {
      const over = new AbortController();
      const late = deps.clock.sleep(GRACE_MS, over.signal).then(
        () => giveUp.abort(new LifeboatError('engine.inventory-late', `it took ${GRACE_MS} ms longer than the disks`)),
        () => {}, // it was in time
      );
      const result = await outcome;
      over.abort();
      await late;
      if ('problem' in result) deps.log.warn(`no inventory of ${input.machine.name}: ${result.problem}`);
      return { ...result, readBytes };
    },
    async cancel() {
      giveUp.abort();
      await outcome;
    },
  };
}

async function take(
  { clock }: Pick<EngineDeps, 'clock'>,
  { job, machine, parent, count }: InventoryInput & { readonly count: (bytes: number) => void },
  signal: AbortSignal,
): Promise<Taken> {
  const opened: BlockDevice[] = [];
  try {
    const disks = [];
    for (const { name, socketPath, exportName } of job.disks) {
      const device = await NbdClient.connect({ socketPath, exportName }, { signal });
      opened.push(device);
      const { controller, serial } = machine.disks.find((disk) => disk.name === name) ?? {};
      disks.push({
        name,
        ...(controller === undefined ? {} : { controller }),
        ...(serial === undefined ? {} : { serial }),
        device: counted(device, count),
      });
    }
    const earlier = parent && storedInventory(parent);
    const files = { unpackers: systemUnpackers(signal), ...(earlier ? { earlier } : {}) };
    const inventory = await takeInventory(
      { disks, hardware: hardwareOf(machine), files, takenAtMs: clock.nowMs() },
      { signal },
    );
    const content = Buffer.from(JSON.stringify(inventory));
    if (content.length <= MAX_INVENTORY_BYTES) return { content };
    return { problem: `it has ${formatBytes(content.length)}; at most ${formatBytes(MAX_INVENTORY_BYTES)} are kept` };
  } finally {
    for (const device of opened) await device.close();
  }
}

function counted(device: BlockDevice, count: (bytes: number) => void): BlockDevice {
  return {
    sizeBytes: device.sizeBytes,
    async read(offsetBytes, target, options) {
      await device.read(offsetBytes, target, options);
      count(target.length);
    },
    extents: (range, options) => device.extents(range, options),
    close: () => device.close(),
  };
}
