/** What ran where: the report's last part, so that figures can be compared. */
import { cpus, hostname, release, totalmem } from 'node:os';
import type { Client } from '@temporalio/client';
import { formatBytes } from '@lifeboat/foundation/units';
import type { HostRuntime } from '@lifeboat/runtime/host-runtime';

type Facts = readonly (readonly [name: string, value: string])[];

export async function hostFacts(host: HostRuntime): Promise<Facts> {
  const { accelerator, acceleratorReason, uri } = await host.hypervisor.describeHost();
  const processors = cpus();
  return [
    ['Host', hostname()],
    ['Processor', `${processors.length} × ${processors[0]?.model.trim() || 'unknown'}`],
    ['Memory', formatBytes(totalmem())],
    ['Kernel', release()],
    ['Hypervisor', uri],
    ['Accelerator', `${accelerator.toUpperCase()}: ${acceleratorReason}`],
  ];
}

export async function versionFacts(host: HostRuntime, client: Client, version: string): Promise<Facts> {
  const { libvirtVersion, qemuVersion } = await host.hypervisor.describeHost();
  const { serverVersion } = await client.workflowService.getSystemInfo({});
  return [
    ['Lifeboat', version],
    ['Node', process.versions.node],
    ['Temporal server', serverVersion || 'unknown'],
    ['libvirt', libvirtVersion],
    ['QEMU', qemuVersion],
  ];
}
