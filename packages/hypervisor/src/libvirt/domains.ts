/** Finding domains, with errors that speak of machines. */
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import type { LibvirtConnection } from '@lifeboat/libvirt/connection';
import { domainByName, domainByUuid, domainState, type DomainState } from '@lifeboat/libvirt/domain-calls';
import { isUuid, type DomainRef } from '@lifeboat/libvirt/references';
import type { MachineState } from '../port.ts';

/** By UUID or name. Errors: `hypervisor.no-such-machine`. */
export async function findDomain(connection: LibvirtConnection, nameOrUuid: string): Promise<DomainRef> {
  const found = await domainIfThere(connection, nameOrUuid);
  if (found) return found;
  throw new LifeboatError('hypervisor.no-such-machine', `there is no machine '${nameOrUuid}'`, {
    context: { machine: nameOrUuid },
  });
}

export async function domainIfThere(connection: LibvirtConnection, nameOrUuid: string): Promise<DomainRef | undefined> {
  if (isUuid(nameOrUuid)) {
    const byUuid = await absentOn(domainByUuid(connection, nameOrUuid));
    if (byUuid) return byUuid;
  }
  return absentOn(domainByName(connection, nameOrUuid));
}

/** A domain has a QEMU process in every state but these two. */
function isActive(state: DomainState): boolean {
  return state !== 'shut-off' && state !== 'no-state';
}

export async function isRunning(connection: LibvirtConnection, domain: DomainRef): Promise<boolean> {
  return isActive((await domainState(connection, domain)).state);
}

/** VIR_DOMAIN_PAUSED_IOERROR of libvirt-domain.h. */
const PAUSED_BY_IO_ERROR = 5;

/** Also of a domain that is gone. */
export async function machineState(connection: LibvirtConnection, domain: DomainRef): Promise<MachineState> {
  const found = await absentOn(domainState(connection, domain));
  if (!found || !isActive(found.state) || found.state === 'crashed') return 'ended';
  if (found.state === 'running' || found.state === 'blocked') return 'running';
  return found.state === 'paused' && found.reason === PAUSED_BY_IO_ERROR ? 'disk-failed' : 'suspended';
}

/** Undefined for a domain that does not exist (any more). */
export async function absentOn<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (hasCode(error, 'libvirt.no-such-domain')) return undefined;
    throw error;
  }
}
