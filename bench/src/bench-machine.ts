/** The machine the figures were taken on, as a reader needs it to judge them. */
import { cpus, loadavg, release, totalmem } from 'node:os';
import { formatBytes } from '@lifeboat/foundation/units';
import type { HostDescription } from '@lifeboat/hypervisor/port';

export function describeMachine(host?: HostDescription): string {
  const models = [...new Set(cpus().map(({ model }) => model.trim()))].join(', ');
  return [
    `${models}, ${cpus().length} cores`,
    `${formatBytes(totalmem())} memory`,
    `Linux ${release()}`,
    ...(host
      ? [`QEMU ${host.qemuVersion}, libvirt ${host.libvirtVersion}, ${host.accelerator} (${host.acceleratorReason})`]
      : []),
    `Node ${process.versions.node}`,
  ].join('; ');
}

/** Over 1, 5 and 15 minutes: above the number of cores, others were measured too. */
export function describeLoad(): string {
  return loadavg()
    .map((load) => load.toFixed(1))
    .join(', ');
}
