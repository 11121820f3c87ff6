/**
 * What the reaper may remove: running transient machines that carry an owner tag. A machine that was
 * defined stays, tag or not: it is what a restore was for.
 */
import type { LibvirtConnection } from '@lifeboat/libvirt/connection';
import { domainXml, isPersistent, listDomains } from '@lifeboat/libvirt/domain-calls';
import type { DomainRef } from '@lifeboat/libvirt/references';
import type { Owner, TaggedItem } from '../port.ts';
import { absentOn, domainIfThere } from './domains.ts';
import { ownerInXml } from './owner-tag.ts';
import { destroyIfActive } from './running-machine.ts';

export async function listTagged(connection: LibvirtConnection): Promise<TaggedItem[]> {
  const items: TaggedItem[] = [];
  for (const domain of await listDomains(connection, { active: true })) {
    const owner = await transientOwner(connection, domain);
    if (owner) items.push({ kind: 'domain', name: domain.name, ...owner });
  }
  return items;
}

/** Idempotent. Looks at the tag again: a name may have come into other hands since it was listed. */
export async function removeTagged(connection: LibvirtConnection, item: TaggedItem): Promise<void> {
  const isSame = (owner: Owner | undefined): boolean => owner?.opId === item.opId && owner.hostId === item.hostId;
  const domain = await domainIfThere(connection, item.name);
  if (domain && isSame(await transientOwner(connection, domain))) await destroyIfActive(connection, domain);
}

/** Undefined for a domain that is gone, persistent, or not ours. */
async function transientOwner(connection: LibvirtConnection, domain: DomainRef): Promise<Owner | undefined> {
  if ((await absentOn(isPersistent(connection, domain))) !== false) return undefined;
  const xml = await absentOn(domainXml(connection, domain));
  return xml === undefined ? undefined : ownerInXml(xml);
}
