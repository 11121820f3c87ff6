/** What a layout is planned from: the table, the volumes and the boot code of a disk, read from its bytes. */
import { sliceDevice } from '@lifeboat/disk/bytes';
import type { LayoutSource } from '@lifeboat/disk/layout/layout-plan';
import { readPartitionTable } from '@lifeboat/disk/partition-table';
import { probeVolume, type VolumeContent } from '@lifeboat/disk/volume-content';
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import { readBootCode } from '@lifeboat/guest/inventory/boot-code';

export async function readLayoutSource(
  name: string,
  device: BlockDevice,
  options: { signal: AbortSignal },
): Promise<LayoutSource> {
  const table = await readPartitionTable(device, options);
  const contents = new Map<number, VolumeContent>();
  for (const { number, role, startBytes: offsetBytes, lengthBytes } of table.partitions) {
    if (role === 'extended') continue;
    contents.set(number, await probeVolume(sliceDevice(device, { offsetBytes, lengthBytes }), options));
  }
  const { loader, grubCore } = await readBootCode(device, table, options);
  const known = loader === 'grub' || loader === 'windows' || loader === 'none' ? loader : 'other';
  return {
    name,
    sizeBytes: device.sizeBytes,
    table,
    contents,
    boot: { loader: known, ...(grubCore ? { core: grubCore } : {}) },
  };
}
