/**
 * The engine's inputs and summaries as they travel: JSON, ids and small numbers, never data. They mirror
 * `engine/verbs` field by field (a type test in the activities room keeps the two assignable), except that
 *   - ids are plain strings: activities parse them at the border, because ids become file names,
 *   - what creates something on a host carries `epoch`, the host's count at which the operation was admitted, so that the
 *     reaper can tell an operation that is younger than its list from one that was forgotten.
 */

/** Admission by the host entity; see `HostStatus.epoch`. */
export interface Admitted {
  readonly opId: string;
  readonly epoch: number;
}

// ---------------------------------------------------------------- capture

export interface CaptureInput extends Admitted {
  readonly machine: string;
}

export interface CapturedDisk {
  readonly name: string;
  readonly sizeBytes: number;
  readonly method: 'full' | 'incremental' | 'comparison';
  readonly reason: string;
  readonly readBytes: number;
  readonly changedBytes: number;
  readonly touchedBytes: number;
  readonly storedBytes: number;
  readonly auditedChunks: number;
  readonly auditedBytes: number;
}

export interface CaptureSummary {
  readonly pointId: string;
  readonly parentPointId?: string;
  readonly machineId: string;
  readonly machineName: string;
  readonly consistency: 'application' | 'filesystem' | 'crash' | 'inconsistent';
  readonly consistencyReason: string;
  readonly instantMs: number;
  readonly durationMs: number;
  readonly healedChunks?: number;
  readonly noInventory?: string;
  readonly inventoryBytes?: number;
  readonly healingFailure?: string;
  readonly disks: readonly CapturedDisk[];
}

export interface ListPointsInput {
  readonly machine?: string;
  /** Newest first; at most this many, at most `MAX_LISTED_POINTS`. */
  readonly limit: number;
}

/** A payload stays far below Temporal's 2 MB; whoever wants more reads the repository. */
export const MAX_LISTED_POINTS = 256;

export interface PointSummary {
  readonly pointId: string;
  readonly machineId: string;
  readonly machineName: string;
  readonly instantMs: number;
  readonly consistency: CaptureSummary['consistency'];
  readonly disks: readonly { readonly name: string; readonly sizeBytes: number }[];
  readonly parentPointId?: string;
  readonly damage?: string;
  readonly proof?: {
    readonly proven: readonly ProofLevel[];
    readonly failed: readonly { readonly level: ProofLevel; readonly reason: string; readonly atMs: number }[];
  };
}

/** What evidence exists for, in the order of its strength; one does not imply those before it. "Skipped" is not a level. */
export type ProofLevel = 'stored' | 'ciphertext' | 'content' | 'filesystem' | 'booted' | 'application';

// ---------------------------------------------------------------- check and boot test

export interface CheckInput {
  readonly machine: string;
  readonly pointId?: string;
  readonly level: 'present' | 'ciphertext' | 'content';
}

export interface CheckSummary {
  readonly pointId: string;
  readonly level: CheckInput['level'];
  readonly checkedBytes: number;
  readonly durationMs: number;
  readonly damage: readonly {
    readonly disk: string;
    readonly partition?: string;
    readonly offsetBytes: number;
    readonly lengthBytes: number;
    readonly what: string;
  }[];
  readonly unlistedPlaces?: number;
}

// ---------------------------------------------------------------- filesystems

export interface FilesystemCheckInput extends Admitted {
  readonly machine: string;
  readonly pointId: string;
  readonly programs?: readonly string[];
}

export interface FilesystemCheckSummary {
  readonly pointId: string;
  readonly volumes: readonly {
    readonly disk: string;
    readonly partition?: number;
    readonly volume?: string;
    readonly type: string;
    readonly label: string;
    readonly result: 'sound' | 'damaged' | 'not-checked';
    readonly detail: string;
    readonly durationMs: number;
  }[];
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

export interface RestoredDisk {
  readonly name: string;
  readonly path: string;
  readonly format: 'qcow2' | 'raw';
  readonly sizeBytes: number;
}

export interface BootTestInput extends Admitted {
  readonly machine: string;
  readonly source:
    | { readonly kind: 'point'; readonly pointId: string }
    | { readonly kind: 'disks'; readonly pointId: string; readonly disks: readonly RestoredDisk[] };
  readonly profile?: string;
  readonly readyBy?: ReadySign;
  readonly readyPattern: string;
  readonly timeoutMs: number;
  readonly reach?: readonly ReachProbe[];
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
  readonly explanation: string;
  readonly elapsedMs: number;
  readonly guestCpuMs: number;
  readonly readBytes: number;
  readonly readWaitMs: number;
  readonly accelerator: string;
  readonly controller: string;
  readonly consoleLogPath: string;
  readonly screenshotPaths: readonly string[];
  readonly probes: readonly {
    readonly command: string;
    readonly exitCode: number;
    readonly output: string;
    readonly durationMs: number;
  }[];
  readonly network: {
    readonly capturePath: string;
    readonly packets: number;
    readonly lease?: string;
    readonly attempts: readonly string[];
    readonly furtherAttempts: number;
  };
}

// ---------------------------------------------------------------- restore and redeploy

export interface RestoreInput extends Admitted {
  readonly machine: string;
  readonly pointId?: string;
  readonly target:
    | { readonly kind: 'directory'; readonly directory: string; readonly name: string }
    | {
        readonly kind: 'device';
        readonly disk: string;
        readonly path: string;
        readonly identity?: TargetIdentity;
      };
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

export interface RestoreLayout {
  readonly disk?: string;
  readonly scheme: 'keep' | 'aligned' | 'gpt';
  readonly resize?: number | 'last';
  readonly only?: readonly number[];
  readonly firmware: 'same' | 'uefi';
  readonly ids: 'kept' | 'new';
  readonly sizeBytes?: number;
}

export interface RestoreSummary {
  readonly pointId: string;
  readonly disks: readonly RestoredDisk[];
  readonly layout?: { readonly disk: string; readonly lines: readonly string[]; readonly warnings: readonly string[] };
  readonly writtenBytes: number;
  readonly durationMs: number;
}

export interface RedeployInput extends Admitted {
  readonly newIdentity?: boolean;
  readonly pointId: string;
  readonly machine: string;
  readonly disks: readonly RestoredDisk[];
  readonly profile: string;
}

export interface RedeployPlanSummary {
  readonly profile: string;
  readonly lines: readonly string[];
  readonly refusals: readonly string[];
  readonly warnings: readonly string[];
  readonly durationMs: number;
}

export interface RedeploySummary extends RedeployPlanSummary {
  readonly installed: readonly {
    readonly kernel: string;
    readonly modules: readonly string[];
    readonly addedBytes: number;
  }[];
  readonly editedFiles: readonly string[];
  readonly injectionMs: number;
  readonly journalPath: string;
  readonly planPath: string;
}

export interface PreflightInput extends Admitted {
  readonly machines?: readonly string[];
  readonly profiles: readonly string[];
}

export interface PreflightSummary {
  readonly machines: readonly {
    readonly machineId: string;
    readonly machineName: string;
    readonly pointId?: string;
    readonly answers: readonly {
      readonly profile: string;
      readonly verdict: 'yes' | 'no' | 'unknown';
      readonly reasons: readonly string[];
      readonly warnings: readonly string[];
    }[];
    readonly problem?: string;
  }[];
  readonly durationMs: number;
}

export interface CompareFilesInput extends Admitted {
  readonly machine: string;
  readonly pointId: string;
  readonly disks: readonly RestoredDisk[];
}

export interface CompareFilesSummary {
  readonly comparedFiles: number;
  readonly comparedBytes: number;
  readonly differing: readonly string[];
  readonly notCompared: readonly string[];
  readonly durationMs: number;
}

export interface DefineInput extends Admitted {
  readonly name: string;
  readonly machine: string;
  readonly pointId: string;
  readonly disks: readonly RestoredDisk[];
  readonly profile?: string;
  readonly start: boolean;
}

export interface DefineSummary {
  readonly machineId: string;
  readonly name: string;
  readonly started: boolean;
}

export interface AbandonInput {
  readonly opId: string;
  readonly removeTargets: boolean;
}

export interface LinkInput {
  readonly machineId: string;
}

export interface LinkSummary {
  readonly linked: readonly string[];
}
