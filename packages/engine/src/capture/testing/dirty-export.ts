import { join } from 'node:path';
import { KiB, MiB } from '@lifeboat/foundation/units';
import { runTool } from '@lifeboat/host/children';
import type { BackupDisk } from '@lifeboat/hypervisor/port';
import { Peers } from '@lifeboat/nbd/testing/peers';
import { onTestFinished } from 'vitest';

const TOOL_TIMEOUT_MS = 20_000;

/**
 * A disk `vda` as a backup job exports it, but by qemu-nbd, until the test ends. Its bitmap holds 64 KiB at 1 MiB, 640 KiB
 * at 2.5 MiB, and 64 KiB in the last chunk, which is 100 KiB long.
 */
export async function dirtyExport(): Promise<BackupDisk> {
  const peers = await Peers.create();
  onTestFinished(() => peers.stop());
  const path = join(peers.directory, 'disk.qcow2');
  const sizeBytes = 8 * MiB + 100 * KiB;
  const tool = (name: string, ...args: string[]): Promise<unknown> =>
    runTool(name, args, { timeoutMs: TOOL_TIMEOUT_MS });
  await tool('qemu-img', 'create', '-q', '-f', 'qcow2', path, String(sizeBytes));
  await tool('qemu-img', 'bitmap', '--add', '-g', '65536', path, 'since');
  const writes = ['write 1M 4k', 'write 2600k 600k', `write ${8 * MiB} 4k`].flatMap((write) => ['-c', write]);
  await tool('qemu-io', '-f', 'qcow2', ...writes, path);
  const { socketPath } = await peers.qemuNbd(['-r', '-f', 'qcow2', '-B', 'since', path], 'vda');
  const dirtyContext = 'qemu:dirty-bitmap:since';
  return { name: 'vda', sizeBytes, socketPath, exportName: 'vda', dirtyContext, tracked: true, untrackedReason: '' };
}
