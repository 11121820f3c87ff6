/**
 * What makes a record under control/, or an entry of the retention ledger, one of ours, although whoever may put objects may put anything there:
 *
 * - its name ends in a tag that only who holds the tenant's keys can compute. Names are taken by whoever comes first, so nobody else must
 *   be able to take one. What has no such tag is foreign: it is reported, and means nothing.
 * - its body is signed together with its name. A record of ours that cannot be read is damage, and never "none".
 *
 * The tenant signs them; an agent signs those of its sessions, and no others.
 */
import type { Core } from '../core.ts';
import { damaged } from '../format/frame.ts';
import { isRecordName } from '../format/names.ts';
import { decodeSigned, encodeSigned, type SignedType } from '../format/signed-record.ts';
import { authorOf, type AgentCertificate } from './certificate.ts';
import { lengthPrefixed } from './derive.ts';

type Keys = Pick<Core, 'keyring'>;

/** The name a record is stored under. */
export function controlName({ keyring }: Keys, plain: string): string {
  return `${plain}.${keyring.nameTag(plain)}`;
}

/** The reverse; undefined for a name that nobody with our keys gave, and for one that no writer of ours gives, whoever computed its tag. */
export function plainName({ keyring }: Keys, name: string): string | undefined {
  const plain = name.slice(0, Math.max(0, name.lastIndexOf('.')));
  return isRecordName(plain) && name === `${plain}.${keyring.nameTag(plain)}` ? plain : undefined;
}

/** `name`: as it is stored, tag and all. */
export function sealRecord(
  { keyring }: Keys,
  record: { type: SignedType; name: string; body: Uint8Array },
): Uint8Array {
  const { type, name, body } = record;
  const { signer, tenantId } = keyring;
  const said = statement({ type, tenantId, name, body });
  if (type === 'SESS') return encodeSigned(type, { body, ...keyring.signAsWriter(said) });
  return encodeSigned(type, { body, signer, signature: keyring.sign(said) });
}

/**
 * The body of a record the tenant signed. Throws `repository.object-damaged` (also for a record that was made for another name) or
 * `repository.newer-version`.
 */
export function openRecord(
  { keyring }: Keys,
  record: { type: SignedType; name: string; object: Uint8Array },
): Uint8Array {
  const { body, author } = openSigned({ keyring }, record);
  if (author === 'tenant') return body;
  throw damaged(record.name, `agent ${author.name} signed it, who may not`);
}

/** The body of a session record, and who signed it: what an agent says counts for machines it is certified for. Throws as `openRecord`. */
export function openSessionRecord(
  { keyring }: Keys,
  record: { name: string; object: Uint8Array },
): { readonly body: Uint8Array; readonly author: 'tenant' | AgentCertificate } {
  return openSigned({ keyring }, { type: 'SESS', ...record });
}

function openSigned(
  { keyring }: Keys,
  record: { type: SignedType; name: string; object: Uint8Array },
): { readonly body: Uint8Array; readonly author: 'tenant' | AgentCertificate } {
  const { type, name, object } = record;
  const { body, ...signed } = decodeSigned(type, object, name);
  const { tenantId } = keyring;
  const author = authorOf(keyring, statement({ type, tenantId, name, body }), signed, name);
  if (author) return { body, author };
  throw damaged(name, 'its signature is not ours');
}

function statement(of: { type: SignedType; tenantId: Uint8Array; name: string; body: Uint8Array }): Buffer {
  const text = (value: string): Buffer => Buffer.from(value, 'utf8');
  return lengthPrefixed('lifeboat control record', text(of.type), of.tenantId, text(of.name), of.body);
}
