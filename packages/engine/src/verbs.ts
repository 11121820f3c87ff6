/**
 * The verbs of the engine: what a host can do to machines and points. Inputs and summaries are JSON-able, small, and hold
 * ids instead of data, so that they can travel through a workflow. Every verb
 *   - takes `{signal, progress}`; an abort undoes what it began and rejects with `operation.cancelled`,
 *   - owns an operation directory named by `opId`: called again with the same `opId` (after kill -9, in another process)
 *     it finds what the earlier attempt left, and resumes, adopts or begins again,
 *   - reports a negative finding (a guest that does not boot) in its summary; it throws only when it could not find out.
 */
import type { MachineId, OpId, PointId } from '@lifeboat/foundation/ids';
import type { VerbContext } from '@lifeboat/foundation/progress';
import type { MachineInventory } from '@lifeboat/guest/inventory/machine-inventory';
import type { MachineRequirements } from '@lifeboat/guest/inventory/requirements';

export type Verb<I, S> = (input: I, context: VerbContext) => Promise<S>;

export interface Engine {
  captureMachine: Verb<CaptureInput, CaptureSummary>;
  checkPoint: Verb<CheckInput, CheckSummary>;
  checkFilesystems: Verb<FilesystemCheckInput, FilesystemCheckSummary>;
  bootTest: Verb<BootTestInput, BootTestSummary>;
  restoreDisks: Verb<RestoreInput, RestoreSummary>;
  /** What a restore would write, and where: nothing is written. Errors: those a restore finds before it writes. */
  planRestore: Verb<RestorePlanInput, RestorePlanSummary>;
  planRedeploy: Verb<RedeployInput, RedeployPlanSummary>;
  applyRedeploy: Verb<RedeployInput, RedeploySummary>;
  defineMachine: Verb<DefineInput, DefineSummary>;
  /** Compares every file of restored disks with the point's, by content: what differs must be what the journal names. */
  compareFiles: Verb<CompareFilesInput, CompareFilesSummary>;
  /** By plan, whether machines would start on spare hardware; nothing is restored and nothing started. */
  preflight: Verb<PreflightInput, PreflightSummary>;
  /** Edits of restored disks whose journal is kept, oldest first. Reads this host's state and nothing else. */
  listRedeploys(): Promise<KeptRedeploy[]>;
  /** Takes an edit back, to the byte or file by file; by its journal, so also without the repository's point. */
  revertRedeploy: Verb<RevertInput, RevertSummary>;
  /** Compensation: stops and removes everything the operation left on this host. Idempotent. */
  abandonOperation: Verb<AbandonInput, void>;
  /** `proof`: also reads what is proven of each, which costs a read for each record of the machines' evidence. */
  listPoints(
    machine?: string,
    options?: { readonly proof?: boolean; readonly signal?: AbortSignal },
  ): Promise<PointSummary[]>;
  /** What was proven of a machine's points, or failed, and whether the chain of these records is whole. Reads the repository and nothing else. */
  listEvidence(machine: string, options?: { readonly signal?: AbortSignal }): Promise<EvidenceSummary>;
  /** What the machine of a point was made of. Reads the repository and nothing else. */
  inspectPoint: Verb<InspectInput, InspectSummary>;
  /** Takes the machine's points that are in no link into its chain: after a commit, by who owns the machine. Idempotent. */
  linkPoints: Verb<LinkInput, LinkSummary>;
}

// ---------------------------------------------------------------- capture

/** What every verb with an operation directory takes. */
export interface OperationInput {
  readonly opId: OpId;
  /** Where a host entity admits operations: its count at the admission, for the reaper. */
  readonly epoch?: number;
}

export interface CaptureInput extends OperationInput {
  /** UUID or name of the machine. */
  readonly machine: string;
}

/**
 * How a disk was read. `full`: no earlier point, or one whose map is damaged. `incremental`: dirty bitmap. `comparison`: everything read and compared
 * with the parent, because change tracking was absent or in doubt.
 */
export type CaptureMethod = 'full' | 'incremental' | 'comparison';

export interface CapturedDisk {
  readonly name: string;
  readonly sizeBytes: number;
  readonly method: CaptureMethod;
  /** Why it was not incremental; empty for an incremental. */
  readonly reason: string;
  /** Payload read from the hypervisor's export as the NBD clients counted it, audit included. */
  readonly readBytes: number;
  /** Bytes the dirty bitmap holds; for a full read, the allocated bytes. */
  readonly changedBytes: number;
  /**
   * Bytes of the whole chunks that `changedBytes` touch, by the maps alone, whatever was read: the most that a capture has to
   * read, audit aside. Chunks in it that are all hole or zeros are not read.
   */
  readonly touchedBytes: number;
  /** Sealed bytes of new chunks sent to the store. */
  readonly storedBytes: number;
  /** Unchanged chunks that were read to audit change tracking, and the bytes of these chunks. */
  readonly auditedChunks: number;
  readonly auditedBytes: number;
}

export interface CaptureSummary {
  readonly pointId: PointId;
  readonly parentPointId?: PointId;
  readonly machineId: MachineId;
  readonly machineName: string;
  readonly consistency: 'application' | 'filesystem' | 'crash' | 'inconsistent';
  readonly consistencyReason: string;
  /** The instant the point shows, Unix ms. */
  readonly instantMs: number;
  readonly durationMs: number;
  /** Chunks of earlier points that a check had found damaged, and that are whole again; absent: none. */
  readonly healedChunks?: number;
  /** Why the point brings no inventory; absent: it brings one. */
  readonly noInventory?: string;
  /** Read for the inventory, beside what the disks say that was read of them. */
  readonly inventoryBytes?: number;
  /** Why damage of earlier points that could have been healed was not. */
  readonly healingFailure?: string;
  readonly disks: readonly CapturedDisk[];
}

export interface PointSummary {
  readonly pointId: PointId;
  readonly machineId: MachineId;
  readonly machineName: string;
  readonly instantMs: number;
  readonly consistency: CaptureSummary['consistency'];
  readonly disks: readonly { readonly name: string; readonly sizeBytes: number }[];
  readonly parentPointId?: PointId;
  /** Set when the point's object could not be trusted; such a point is shown, never hidden. */
  readonly damage?: string;
  /** Set where it was asked for: the levels that evidence exists for, weak to strong; and what did not hold when it was looked at last. */
  readonly proof?: {
    readonly proven: readonly ProofLevel[];
    readonly failed: readonly { readonly level: ProofLevel; readonly reason: string; readonly atMs: number }[];
  };
}

export type ProofLevel = 'stored' | 'ciphertext' | 'content' | 'filesystem' | 'booted' | 'application';

// ---------------------------------------------------------------- evidence

export interface EvidenceSummary {
  readonly machineId: MachineId;
  /** Of the newest point that says one. */
  readonly machineName?: string;
  /** Whether every record is there as it was written. */
  readonly sound: boolean;
  readonly problems: readonly { readonly number: number; readonly why: string }[];
  /** Objects among the records that nobody with the keys put there. */
  readonly foreignObjects: number;
  /** Oldest first. */
  readonly records: readonly EvidenceRecord[];
}

export interface EvidenceRecord {
  readonly number: number;
  /** SHA-256 of the record's object, hexadecimal: what the next record names. */
  readonly hash: string;
  readonly operation: string;
  readonly operationId: string;
  readonly hostId: string;
  /** Unix ms. */
  readonly beganMs: number;
  readonly endedMs: number;
  readonly readBytes: number;
  readonly claims: readonly {
    readonly pointId: string;
    /** False: it was pruned since. */
    readonly pointIsThere: boolean;
    readonly level: ProofLevel;
    readonly result: 'proven' | 'failed';
    /** Empty: all of the point's disks. */
    readonly disks: readonly string[];
    readonly reason: string;
  }[];
  readonly artefacts: readonly { readonly name: string; readonly sizeBytes: number; readonly sha256: string }[];
  /** Empty: the machine's own. */
  readonly hardware: string;
  readonly summary: string;
}

// ---------------------------------------------------------------- inspect

export interface InspectInput {
  readonly machine: string;
  /** Newest when absent. */
  readonly pointId?: PointId;
}

export interface InspectSummary {
  readonly pointId: PointId;
  readonly machineName: string;
  /** `now`: the point brought no inventory, so its disks were looked at. */
  readonly taken: 'at-backup' | 'now';
  readonly inventory: MachineInventory;
  /** What another machine must have to take it over as it is. */
  readonly requirements: MachineRequirements;
  /** The inventory as a person reads it, a line each; text of the guest's is in it as it was written. */
  readonly lines: readonly string[];
}

export interface LinkInput {
  readonly machineId: MachineId;
}

export interface LinkSummary {
  /** Oldest first. More than the point that was just made: links of earlier ones were lost by a kill. */
  readonly linked: readonly PointId[];
}

// ---------------------------------------------------------------- check

export interface CheckInput {
  readonly machine: string;
  /** Newest when absent. */
  readonly pointId?: PointId;
  readonly level: 'present' | 'ciphertext' | 'content';
}

export interface CheckSummary {
  readonly pointId: PointId;
  readonly level: CheckInput['level'];
  readonly checkedBytes: number;
  readonly durationMs: number;
  readonly damage: readonly {
    readonly disk: string;
    /** Which partition of the disk, or why none can be named; absent for damage of no disk. */
    readonly partition?: string;
    readonly offsetBytes: number;
    readonly lengthBytes: number;
    readonly what: string;
  }[];
  /** Damaged places beyond those in `damage`, which are the first 100. */
  readonly unlistedPlaces?: number;
}

// ---------------------------------------------------------------- filesystems

export interface FilesystemCheckInput extends OperationInput {
  readonly machine: string;
  readonly pointId: PointId;
  /** Programs of this host that get the mounted guest and must end with 0; what they write is thrown away. */
  readonly programs?: readonly string[];
}

export interface FilesystemCheckSummary {
  readonly pointId: PointId;
  readonly volumes: readonly {
    readonly disk: string;
    readonly partition?: number;
    /** Of LVM or MD: its name. */
    readonly volume?: string;
    readonly type: string;
    readonly label: string;
    /** `not-checked`: encrypted, of an unknown kind, or without a checker on this host; `detail` says which. Never good. */
    readonly result: 'sound' | 'damaged' | 'not-checked';
    readonly detail: string;
    readonly durationMs: number;
  }[];
  /** Of a Windows: its registry, read to the last key. */
  readonly hives: readonly {
    readonly disk: string;
    readonly path: string;
    readonly result: 'sound' | 'damaged';
    readonly detail: string;
  }[];
  readonly programs: readonly {
    readonly program: string;
    readonly exitCode: number;
    readonly output: string;
    readonly durationMs: number;
  }[];
  readonly durationMs: number;
}

// ---------------------------------------------------------------- boot test

export interface RestoredDisk {
  readonly name: string;
  readonly path: string;
  readonly format: 'qcow2' | 'raw';
  readonly sizeBytes: number;
}

export interface BootTestInput extends OperationInput {
  readonly machine: string;
  /** A point boots straight from the repository; restored disks boot through a throw-away overlay and stay as they are. */
  readonly source:
    | { readonly kind: 'point'; readonly pointId: PointId }
    | { readonly kind: 'disks'; readonly pointId: PointId; readonly disks: readonly RestoredDisk[] };
  /** Path of a hardware profile file or name of a shipped one; absent: the hardware the machine was captured on. */
  readonly profile?: string;
  /** What says that the guest is up; default `console`, by `readyPattern`. */
  readonly readyBy?: ReadySign;
  readonly readyPattern: string;
  readonly timeoutMs: number;
  /** Ports of the guest that must answer once it is ready, from this host. */
  readonly reach?: readonly ReachProbe[];
  /** Shell commands run through the guest agent once ready; each must exit 0. */
  readonly probes?: readonly string[];
}

/**
 * `console`: it prints the ready pattern. `agent`: its guest agent answers. `dhcp`: it took the address it was offered. `screen`: its screen
 * shows something and has not changed for half a minute; the weakest sign, for guests that give no other.
 */
export type ReadySign = 'console' | 'agent' | 'dhcp' | 'screen';

export type ReachProbe =
  | { readonly kind: 'tcp'; readonly port: number }
  /** Answered with a status from 200 to 399. */
  | { readonly kind: 'http'; readonly port: number; readonly path: string };

export type BootFinding =
  | 'ready'
  | 'grub-rescue'
  | 'initramfs-shell'
  | 'kernel-panic'
  | 'no-boot-device'
  | 'passphrase-prompt'
  | 'reboot-loop'
  | 'blue-screen'
  | 'nothing-shown'
  | 'disk-failed'
  | 'ended'
  | 'probe-failed'
  | 'timeout';

export interface BootTestSummary {
  readonly finding: BootFinding;
  /** A sentence for a person. */
  readonly explanation: string;
  /** From power-on to ready (or to the finding), wall clock. */
  readonly elapsedMs: number;
  readonly guestCpuMs: number;
  /** Bytes the guest read from its disks, and the time it waited for them. */
  readonly readBytes: number;
  readonly readWaitMs: number;
  readonly accelerator: string;
  readonly controller: string;
  /** Evidence files, absolute paths under the state root. */
  readonly consoleLogPath: string;
  /** By time; the last is the screen at the end. */
  readonly screenshotPaths: readonly string[];
  readonly probes: readonly {
    readonly command: string;
    readonly exitCode: number;
    readonly output: string;
    readonly durationMs: number;
  }[];
  /** What the guest did on its isolated network. No answer came from outside: else there is no summary but an error. */
  readonly network: {
    /** Every packet, pcap. */
    readonly capturePath: string;
    readonly packets: number;
    readonly lease?: string;
    /** Where outside it wanted to go: address, protocol and port; the first ones. */
    readonly attempts: readonly string[];
    readonly furtherAttempts: number;
  };
}

// ---------------------------------------------------------------- restore and redeploy

export interface RestoreInput extends OperationInput {
  readonly machine: string;
  /** Newest when absent. */
  readonly pointId?: PointId;
  readonly target:
    /** New qcow2 files `<directory>/<name>-<disk>.qcow2`. */
    | { readonly kind: 'directory'; readonly directory: string; readonly name: string }
    /** One disk onto an existing raw file or block device: a path, or the one disk that `serial:…`, `wwn:…` or `size:<bytes>` names. */
    | {
        readonly kind: 'device';
        readonly disk: string;
        readonly path: string;
        /** As it was shown to a person: another one is not written to. */
        readonly identity?: TargetIdentity;
      };
  /** Absent: every byte where it was. */
  readonly layout?: RestoreLayout;
}

export interface TargetIdentity {
  readonly id: string;
  readonly sizeBytes: number;
  readonly sectorBytes?: number;
  readonly serial?: string;
  readonly wwn?: string;
  readonly model?: string;
}

/** How the partitions of one disk are to lie; see `LayoutRequest`. */
export interface RestoreLayout {
  /** May be absent where the point has one disk, or the target names one. */
  readonly disk?: string;
  readonly scheme: 'keep' | 'aligned' | 'gpt';
  readonly resize?: number | 'last';
  readonly only?: readonly number[];
  readonly firmware: 'same' | 'uefi';
  readonly ids: 'kept' | 'new';
  /** Of a new image; absent: as large as the disk was. A device has its own. */
  readonly sizeBytes?: number;
}

export interface RestorePlanInput {
  readonly machine: string;
  /** Newest when absent. */
  readonly pointId?: PointId;
  readonly target: RestoreInput['target'];
  readonly layout?: RestoreLayout;
}

export interface RestorePlanSummary {
  readonly pointId: PointId;
  /** What will be written, as a person reads it; empty for new images of disks as they were. */
  readonly lines: readonly string[];
  readonly warnings: readonly string[];
  /** Of the device that would be overwritten, and its path. */
  readonly device?: { readonly path: string; readonly identity: TargetIdentity };
}

export interface RestoreSummary {
  readonly pointId: PointId;
  readonly disks: readonly RestoredDisk[];
  /** How a disk was laid out anew. */
  readonly layout?: { readonly disk: string; readonly lines: readonly string[]; readonly warnings: readonly string[] };
  readonly writtenBytes: number;
  readonly durationMs: number;
}

export interface RedeployInput extends OperationInput {
  /** The original goes on running: ids, host keys and leases become the new machine's own. */
  readonly newIdentity?: boolean;
  readonly pointId: PointId;
  readonly machine: string;
  readonly disks: readonly RestoredDisk[];
  readonly profile: string;
}

export interface RedeployPlanSummary {
  readonly profile: string;
  /** The plan as a person reads it, a line each. */
  readonly lines: readonly string[];
  readonly refusals: readonly string[];
  readonly warnings: readonly string[];
  readonly durationMs: number;
}

export interface RedeploySummary extends RedeployPlanSummary {
  /**
   * What is really installed now, read back from the disk: of each kernel its modules; of a Windows, by its name, the drivers of disk
   * controllers that start at boot.
   */
  readonly installed: readonly {
    readonly kernel: string;
    readonly modules: readonly string[];
    readonly addedBytes: number;
  }[];
  /** Files the journal names. */
  readonly editedFiles: readonly string[];
  readonly injectionMs: number;
  readonly journalPath: string;
  /** The plan as it was carried out, as text; beside it as JSON. Both are in the evidence by their hashes. */
  readonly planPath: string;
}

export interface PreflightInput extends OperationInput {
  /** Names or ids; all that have a point when absent. */
  readonly machines?: readonly string[];
  /** Paths of profile files or names of shipped ones. */
  readonly profiles: readonly string[];
}

export interface PreflightSummary {
  /** By name. */
  readonly machines: readonly {
    readonly machineId: MachineId;
    readonly machineName: string;
    readonly pointId?: PointId;
    /** In the order of the profiles; none where nothing could be found out. */
    readonly answers: readonly {
      readonly profile: string;
      /** `unknown`: the guest could not be looked into; never a yes. */
      readonly verdict: 'yes' | 'no' | 'unknown';
      /** Why not, with what would help. */
      readonly reasons: readonly string[];
      readonly warnings: readonly string[];
    }[];
    /** Why nothing could be found out. */
    readonly problem?: string;
  }[];
  readonly durationMs: number;
}

export interface KeptRedeploy {
  /** The operation that edited; names the journal. */
  readonly opId: OpId;
  readonly state: 'writing' | 'applied' | 'reverting' | 'reverted' | 'damaged';
  /** Absent in journals of versions that did not note it. */
  readonly about?: {
    readonly machine: string;
    readonly pointId: PointId;
    readonly profile: string;
    /** Unix ms. */
    readonly editedAtMs: number;
    readonly disks: readonly RestoredDisk[];
  };
  readonly disks: readonly string[];
  readonly editedFiles: readonly string[];
  /** Why it is `damaged`. */
  readonly problem?: string;
}

export interface RevertInput {
  /** The operation that edited. */
  readonly edit: OpId;
  /** `bytes`: the edited places hold what they held. `files`: for disks a machine ran from since; the edited files do. */
  readonly by: 'bytes' | 'files';
  /** Also over what was changed since; refused without. */
  readonly overwriteChanged: boolean;
}

export interface RevertSummary {
  readonly edit: OpId;
  readonly by: 'bytes' | 'files';
  readonly disks: readonly string[];
  readonly files: readonly string[];
  /** It was taken back before; nothing was done now. */
  readonly wasReverted: boolean;
  readonly durationMs: number;
}

export interface CompareFilesInput extends OperationInput {
  readonly machine: string;
  readonly pointId: PointId;
  readonly disks: readonly RestoredDisk[];
}

export interface CompareFilesSummary {
  readonly comparedFiles: number;
  readonly comparedBytes: number;
  /** Paths whose content, type, owner, mode or attributes differ, or that one side lacks; of each filesystem at most 1000. */
  readonly differing: readonly string[];
  /** Filesystems of the guest that could not be looked at here, each with why. */
  readonly notCompared: readonly string[];
  readonly durationMs: number;
}

export interface DefineInput extends OperationInput {
  readonly name: string;
  readonly machine: string;
  readonly pointId: PointId;
  readonly disks: readonly RestoredDisk[];
  readonly profile?: string;
  readonly start: boolean;
}

export interface DefineSummary {
  readonly machineId: MachineId;
  readonly name: string;
  readonly started: boolean;
}

export interface AbandonInput {
  readonly opId: OpId;
  /** Remove restored disks and half-written targets too. */
  readonly removeTargets: boolean;
}
