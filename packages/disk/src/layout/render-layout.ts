/** A planned layout as a person reads it before it is written. */
import { formatBytes } from '@lifeboat/foundation/units';
import type { LayoutPlan, PlannedPartition } from './layout-plan.ts';

export function renderLayout(plan: LayoutPlan): string[] {
  const { disk, scheme, sizeBytes, sectorBytes, diskId, partitions } = plan;
  const table = scheme === 'gpt' ? 'GPT' : 'MBR';
  const id = diskId === undefined ? 'a new id' : `id ${diskId}`;
  return [
    `Disk ${disk}: ${table} with ${id} on ${formatBytes(sizeBytes)}, sectors of ${sectorBytes} bytes`,
    ...partitions.toSorted((a, b) => a.startBytes - b.startBytes).map(line),
    ...bootLines(plan),
  ];
}

function line(partition: PlannedPartition): string {
  const { number, startBytes, lengthBytes, from, holds, role } = partition;
  const place = `${role === 'extended' ? '' : '  '}${number}: ${formatBytes(lengthBytes)} at sector ${startBytes / 512}`;
  return `  ${place}, ${holds}${from ? changeOf(partition, from) : role === 'extended' ? '' : ' (added)'}`;
}

function changeOf(
  { startBytes, lengthBytes, number, volume }: PlannedPartition,
  from: NonNullable<PlannedPartition['from']>,
): string {
  const changes = [
    ...(from.number === number ? [] : [`was number ${from.number}`]),
    ...(from.startBytes === startBytes ? [] : [`moved from sector ${from.startBytes / 512}`]),
    ...(from.lengthBytes === lengthBytes ? [] : [`was ${formatBytes(from.lengthBytes)}`]),
    ...(volume ? [`its filesystem ${volume.change === 'grow' ? 'grows' : 'shrinks'} with it`] : []),
  ];
  return changes.length === 0 ? '' : ` (${changes.join('; ')})`;
}

function bootLines({ boot, efiSystemPartition }: LayoutPlan): string[] {
  const lines: string[] = [];
  if (boot.kind === 'new-core')
    lines.push("  GRUB's core image is made anew and put before the first partition that holds data");
  if (efiSystemPartition !== undefined)
    lines.push(`  partition ${efiSystemPartition} gets loaders to start by UEFI, where it has none`);
  return lines;
}
