/** libvirt's errors as ours: its number and domain stay in the context, so that no caller reads message texts. */
import type { ErrorCode } from '@lifeboat/foundation/catalogue';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { readDomain } from './references.ts';
import type { XdrReader } from './xdr.ts';

/** libvirt's error numbers that somebody here tells apart. Stable ABI. */
export const LIBVIRT_ERROR = {
  noSupport: 3,
  invalidArgument: 8,
  operationFailed: 9,
  xmlError: 27,
  domainExists: 28,
  operationDenied: 29,
  xmlDetail: 35,
  networkExists: 37,
  noDomain: 42,
  noNetwork: 43,
  authFailed: 45,
  operationInvalid: 55,
  configUnsupported: 67,
  operationTimeout: 68,
  argumentUnsupported: 74,
  authCancelled: 79,
  noMetadata: 80,
  operationUnsupported: 84,
  agentUnresponsive: 86,
  resourceBusy: 87,
  accessDenied: 88,
  invalidSchema: 92,
  authUnavailable: 94,
  agentUnsynced: 97,
  noCheckpoint: 103,
  noBackup: 104,
  checkpointInconsistent: 109,
  agentTimeout: 112,
  agentFailed: 113,
} as const;

const CODES: ReadonlyMap<number, ErrorCode> = new Map<number, ErrorCode>([
  [LIBVIRT_ERROR.noSupport, 'libvirt.unsupported'],
  [LIBVIRT_ERROR.operationFailed, 'libvirt.operation-failed'],
  [LIBVIRT_ERROR.xmlError, 'libvirt.invalid-definition'],
  [LIBVIRT_ERROR.domainExists, 'libvirt.exists'],
  [LIBVIRT_ERROR.operationDenied, 'libvirt.not-permitted'],
  [LIBVIRT_ERROR.xmlDetail, 'libvirt.invalid-definition'],
  [LIBVIRT_ERROR.networkExists, 'libvirt.exists'],
  [LIBVIRT_ERROR.noDomain, 'libvirt.no-such-domain'],
  [LIBVIRT_ERROR.noNetwork, 'libvirt.no-such-network'],
  [LIBVIRT_ERROR.authFailed, 'libvirt.not-permitted'],
  [LIBVIRT_ERROR.operationInvalid, 'libvirt.wrong-state'],
  [LIBVIRT_ERROR.configUnsupported, 'libvirt.unsupported'],
  [LIBVIRT_ERROR.operationTimeout, 'libvirt.busy'],
  [LIBVIRT_ERROR.argumentUnsupported, 'libvirt.unsupported'],
  [LIBVIRT_ERROR.authCancelled, 'libvirt.not-permitted'],
  [LIBVIRT_ERROR.operationUnsupported, 'libvirt.unsupported'],
  [LIBVIRT_ERROR.agentUnresponsive, 'libvirt.agent-unresponsive'],
  [LIBVIRT_ERROR.resourceBusy, 'libvirt.busy'],
  [LIBVIRT_ERROR.accessDenied, 'libvirt.not-permitted'],
  [LIBVIRT_ERROR.invalidSchema, 'libvirt.invalid-definition'],
  [LIBVIRT_ERROR.authUnavailable, 'libvirt.not-permitted'],
  [LIBVIRT_ERROR.agentUnsynced, 'libvirt.agent-unresponsive'],
  [LIBVIRT_ERROR.noCheckpoint, 'libvirt.no-such-checkpoint'],
  [LIBVIRT_ERROR.noBackup, 'libvirt.no-backup-job'],
  [LIBVIRT_ERROR.checkpointInconsistent, 'libvirt.checkpoint-inconsistent'],
  [LIBVIRT_ERROR.agentTimeout, 'libvirt.agent-unresponsive'],
  [LIBVIRT_ERROR.agentFailed, 'libvirt.agent-failed'],
]);

/** Reads the error body of a reply or stream packet. `doing` names the call and its object for the message. */
export function readRemoteError(reader: XdrReader, doing: { procedure: string; object: string }): LifeboatError {
  const libvirtCode = reader.i32();
  const libvirtDomain = reader.i32();
  const text = reader.optional(() => reader.string()) ?? 'libvirt gave no message';
  reader.i32(); // level: always "error" here
  const domainName = reader.optional(() => readDomain(reader))?.name;
  // Three more texts, two numbers and a network follow; libvirt fills them with parts of the message or not at all.
  return new LifeboatError(
    CODES.get(libvirtCode) ?? 'libvirt.call-failed',
    `${doing.procedure}${doing.object === '' ? '' : ` of ${doing.object}`}: ${text}`,
    { context: { libvirtCode, libvirtDomain, procedure: doing.procedure, domain: domainName } },
  );
}

/** Whether `error` is libvirt's error of one of these numbers. */
export function isLibvirtError(error: unknown, ...kinds: readonly (keyof typeof LIBVIRT_ERROR)[]): boolean {
  if (!(error instanceof LifeboatError)) return false;
  return kinds.some((kind) => error.context['libvirtCode'] === LIBVIRT_ERROR[kind]);
}
