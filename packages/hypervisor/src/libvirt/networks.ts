/** Networks without a way out: no forwarding, no address of the host, no name or address service. Machines on it meet each other. */
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import type { LibvirtConnection } from '@lifeboat/libvirt/connection';
import {
  destroyNetwork as destroyInLibvirt,
  networkByName,
  networkXml,
  startTransientNetwork,
} from '@lifeboat/libvirt/network-calls';
import type { NetworkRef } from '@lifeboat/libvirt/references';
import type { Owner } from '../port.ts';
import { element } from '../xml/xml-writer.ts';
import { ownerInXml, ownerTag } from './owner-tag.ts';

/** Idempotent for the same owner. Errors: `hypervisor.name-taken`. */
export async function createIsolatedNetwork(connection: LibvirtConnection, name: string, owner: Owner): Promise<void> {
  const xml = element(
    'network',
    {},
    element('name', {}, name),
    element('metadata', {}, ownerTag(owner)),
    // Ports forward at once: a guest's first packets are not held back by a spanning tree of one bridge.
    element('bridge', { stp: 'off', delay: 0 }),
  ).source;
  if (await isOurs(connection, name, owner)) return;
  try {
    await startTransientNetwork(connection, xml);
  } catch (error) {
    // Another attempt of the same operation was faster.
    if (!(await isOurs(connection, name, owner))) throw error;
  }
}

/** Idempotent. */
export async function destroyNetwork(connection: LibvirtConnection, name: string): Promise<void> {
  const network = await networkIfThere(connection, name);
  if (!network) return;
  try {
    await destroyInLibvirt(connection, network);
  } catch (error) {
    if (!hasCode(error, 'libvirt.no-such-network')) throw error;
  }
}

export async function networkOwner(connection: LibvirtConnection, network: NetworkRef): Promise<Owner | undefined> {
  try {
    return ownerInXml(await networkXml(connection, network));
  } catch (error) {
    if (hasCode(error, 'libvirt.no-such-network')) return undefined;
    throw error;
  }
}

export async function networkIfThere(connection: LibvirtConnection, name: string): Promise<NetworkRef | undefined> {
  try {
    return await networkByName(connection, name);
  } catch (error) {
    if (hasCode(error, 'libvirt.no-such-network')) return undefined;
    throw error;
  }
}

async function isOurs(connection: LibvirtConnection, name: string, owner: Owner): Promise<boolean> {
  const network = await networkIfThere(connection, name);
  if (!network) return false;
  const found = await networkOwner(connection, network);
  if (found?.opId === owner.opId && found.hostId === owner.hostId) return true;
  throw new LifeboatError('hypervisor.name-taken', `a network '${name}' exists and is not of operation ${owner.opId}`, {
    context: { network: name, opId: owner.opId, owner: found?.opId },
  });
}
