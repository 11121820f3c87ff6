import { KiB, MiB } from '@lifeboat/foundation/units';

/**
 * What the format fixes, and what a reader refuses before it allocates memory for it. A number that arrives from the store
 * is compared with one of these first.
 */
export const FORMAT_VERSION = 1;

/** Keys of points that are handed out at once: at 32 MiB a pack 32 TiB, in 64 MiB. */
export const MAX_GRANTED_POINTS = 256;
export const MAX_GRANTED_PACKS = 1_048_576;
export const MAX_POINT_KEYS_BYTES = 65 * MiB;

/** Certificates, revocations and the credentials of agents. A certificate lies in every object its agent signs. */
export const MAX_AGENT_MACHINES = 64;
export const MAX_CERTIFICATE_BYTES = 8 * KiB;
export const MAX_AGENT_FILE_BYTES = 32 * KiB;
/** Points of one agent that count although it was revoked. */
export const MAX_ACCEPTED_POINTS = 524_288;
export const MAX_REVOCATION_BYTES = 17 * MiB;
/** Objects among the agents that are read: certificates and revocations of all agents of a tenant there ever were. */
export const MAX_AGENT_OBJECTS = 16_384;

/** Chunk sizes: a power of two between these. Production uses 64 KiB and more; tests use tiny ones. */
export const MIN_CHUNK_BYTES = 64;
export const MAX_CHUNK_BYTES = 4 * MiB;
export const DEFAULT_CHUNK_BYTES = MiB;

/** Entries of a map page, children of a branch page, entries of a pack-set page. Powers of two (branch) keep ranges aligned. */
export const DEFAULT_GEOMETRY = { leafEntries: 64, branchEntries: 64, packSetEntries: 128 } as const;
export const MAX_PAGE_ENTRIES = 4096;
/** Depth of a map: 64 x 64^7 chunks are more than any disk has. */
export const MAX_MAP_LEVEL = 12;

export const MAX_SUPERBLOCK_BYTES = 4 * KiB;
export const MAX_KEY_SET_BYTES = 256 * KiB;
/** Ways into one tenant; each passphrase costs a scrypt to try. */
export const MAX_KEY_SLOTS = 16;
/** Tenants a reader lists before it gives up. */
export const MAX_TENANTS = 1024;
/** Passphrases tried when no tenant was named: at 0.5 s each, half a minute. */
export const MAX_PASSPHRASE_TRIES = 64;

/** A pack never grows beyond this, whatever its target: offsets stay well below 2^32 and files below 4 GiB. */
export const MAX_PACK_BYTES = 128 * MiB;
export const MAX_PACK_ENTRIES = 16_384;
export const MAX_PACK_HEADER_BYTES = 1 * KiB;
/** A map or pack-set page in plain form. */
export const MAX_PAGE_BYTES = 512 * KiB;

export const MAX_INDEX_SEGMENT_ENTRIES = 65_536;
export const MAX_INDEX_SEGMENT_BYTES = 16 * MiB;

/** Where every blob of a pack moved to: some 90 bytes each. */
export const MAX_RELOCATION_BYTES = 4 * MiB;

/** Blobs, and whole packs, in one damage report; a check that finds more writes several. */
export const MAX_REPORTED_BLOBS = 16_384;
export const MAX_REPORTED_PACKS = 16_384;
export const MAX_DAMAGE_REPORT_BYTES = 4 * MiB;

/** A point with its inventory and inline files, sealed. */
export const MAX_POINT_BYTES = 16 * MiB;
export const MAX_POINT_BODY_BYTES = 32 * MiB;
export const MAX_POINT_DISKS = 256;
export const MAX_POINT_FILES = 64;
/** All inline files of one point together. */
export const MAX_POINT_FILES_BYTES = 8 * MiB;
/** Machine inventory, and capture record, as JSON text, each. */
export const MAX_POINT_JSON_BYTES = 1 * MiB;

/** Packs, or points, in one part of a condemn list; a list has as many parts as it needs. */
export const MAX_CONDEMN_PART_PACKS = 65_536;
export const MAX_CONDEMN_PART_POINTS = 16_384;
export const MAX_CONDEMN_PARTS = 4096;
/** Any of the small records under control/, and a part of a condemn list. */
export const MAX_RECORD_BYTES = 16 * KiB;
export const MAX_CONDEMN_PART_BYTES = 4 * MiB;
/** Condemn lists a session names in its record; more than one at a time is already unusual. */
export const MAX_SESSION_LISTS = 64;
/** Changes of policies and holds, requests and approvals of one tenant: all are read before anything is pruned. */
export const MAX_LEDGER_ENTRIES = 100_000;
/** Points in one link of a machine's chain: 6 KiB. */
export const MAX_LINK_POINTS = 64;
/** Records of a machine's evidence that are read: one a day for 270 years. */
export const MAX_EVIDENCE_RECORDS = 100_000;
/** What one record says of points; an operation that says more writes several. */
export const MAX_EVIDENCE_CLAIMS = 128;
export const MAX_EVIDENCE_SEALED_BYTES = 1 * MiB;
/** Sealed, in its envelope, signed and framed. */
export const MAX_EVIDENCE_BYTES = MAX_EVIDENCE_SEALED_BYTES + 4 * KiB;
/** Packs in one record of a check; it writes as many as it needs. 1 MiB. */
export const MAX_VERIFIED_PACKS = 65_536;
export const MAX_VERIFICATION_BYTES = 1 * MiB + 4 * KiB;
/** What a control object says, sealed: a runbook, a catalogue of drivers. */
export const MAX_CONTROL_PAYLOAD_BYTES = 1 * MiB;
/** The object around it. */
export const MAX_CONTROL_OBJECT_BYTES = MAX_CONTROL_PAYLOAD_BYTES + 4 * KiB;
/** How long a destructive act can be made to wait. */
export const MAX_DELAY_MS = 365 * 86_400_000;
