/**
 * Procedure numbers of libvirt's RPC. They are a stable ABI: a number never changes its meaning, new ones are appended.
 * Looked up one by one and each checked against libvirt 9.0 by test/integration/libvirt-client.test.ts.
 */
export const PROGRAM = { remote: 0x2000_8086, qemu: 0x2000_8087, keepalive: 0x6b65_6570 } as const;
export const PROTOCOL_VERSION = 1;

const REMOTE = {
  connectOpen: 1,
  connectClose: 2,
  connectGetVersion: 4,
  nodeGetInfo: 6,
  connectGetCapabilities: 7,
  domainCreateXML: 10,
  domainDefineXML: 11,
  domainGetXMLDesc: 14,
  domainGetInfo: 16,
  domainLookupByName: 23,
  domainLookupByUUID: 24,
  domainResume: 28,
  domainShutdown: 33,
  domainSuspend: 34,
  networkCreate: 39,
  networkCreateXML: 40,
  networkDefineXML: 41,
  networkDestroy: 42,
  networkGetXMLDesc: 43,
  networkLookupByName: 46,
  networkUndefine: 49,
  connectGetHostname: 59,
  connectSupportsFeature: 60,
  domainBlockStats: 64,
  authList: 66,
  authPolkit: 70,
  domainIsPersistent: 151,
  connectGetLibVersion: 157,
  domainMemoryStats: 159,
  domainAbortJob: 164,
  domainGetBlockInfo: 194,
  domainCreateWithFlags: 196,
  domainOpenConsole: 201,
  domainScreenshot: 211,
  domainGetState: 212,
  domainSendKey: 226,
  domainUndefineFlags: 231,
  domainDestroyFlags: 234,
  domainReset: 245,
  domainSetMetadata: 264,
  domainGetMetadata: 265,
  connectListAllDomains: 273,
  connectListAllNetworks: 283,
  domainGetJobStats: 298,
  connectDomainEventCallbackRegisterAny: 316,
  connectDomainEventCallbackDeregisterAny: 317,
  domainFsfreeze: 335,
  domainFsthaw: 336,
  networkGetDhcpLeases: 341,
  connectGetAllDomainStats: 344,
  domainCheckpointCreateXML: 411,
  domainCheckpointGetXMLDesc: 412,
  domainListAllCheckpoints: 413,
  domainCheckpointLookupByName: 415,
  domainCheckpointDelete: 417,
  domainBackupBegin: 421,
  domainBackupGetXMLDesc: 422,
} as const;

const QEMU = { domainMonitorCommand: 1, domainAgentCommand: 3 } as const;

export type Procedure = keyof typeof REMOTE | keyof typeof QEMU;

export function procedureNumber(name: Procedure): { program: number; procedure: number } {
  if (name in QEMU) return { program: PROGRAM.qemu, procedure: QEMU[name as keyof typeof QEMU] };
  return { program: PROGRAM.remote, procedure: REMOTE[name as keyof typeof REMOTE] };
}

/** Events the daemon sends to a registered callback, by procedure number. */
export const EVENT_PROCEDURE = {
  lifecycle: 318,
  reboot: 319,
  ioError: 324,
  blockJob: 339,
  agentLifecycle: 348,
  jobCompleted: 363,
} as const;

export const KEEPALIVE_PROCEDURE = { ping: 1, pong: 2 } as const;
