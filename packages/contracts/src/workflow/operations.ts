/** The operations a person or a policy asks for: each is one workflow, started by the machine's entity. */
import type { OperationKind } from './names.ts';
import type {
  BootTestInput,
  BootTestSummary,
  CaptureSummary,
  CheckInput,
  CheckSummary,
  CompareFilesSummary,
  DefineSummary,
  FilesystemCheckSummary,
  ProofLevel,
  RedeployPlanSummary,
  RedeploySummary,
  RestoreInput,
  RestoreSummary,
} from './verbs.ts';

export interface OperationTarget {
  /** Host whose agent does the work. */
  readonly hostId: string;
  readonly machineId: string;
  /** What the engine is called with: the machine's UUID or name. */
  readonly machine: string;
}

/** How a guest proves that it runs. */
export interface BootPlan {
  /** Absent: the hardware the machine was captured on. */
  readonly profile?: string;
  readonly readyBy?: BootTestInput['readyBy'];
  readonly readyPattern: string;
  readonly timeoutMs: number;
  readonly reach?: BootTestInput['reach'];
  readonly probes?: readonly string[];
}

export interface Definition {
  readonly name: string;
  readonly start: boolean;
}

// ---------------------------------------------------------------- backup

export type BackupMachineInput = OperationTarget;

export interface BackupMachineResult {
  readonly capture: CaptureSummary;
}

// ---------------------------------------------------------------- verify

export interface VerifyPointInput extends OperationTarget {
  /** Newest when absent. */
  readonly pointId?: string;
  readonly level: CheckInput['level'];
  /** Absent: the filesystems are not looked at. */
  readonly filesystems?: { readonly programs: readonly string[] };
  /** Absent: check only, no boot test. */
  readonly boot?: BootPlan;
}

export interface VerifyPointResult {
  /**
   * `sound`: the check found no damage, and no boot test was asked for; `proven`: it started, too. `inconsistent`: what is stored is whole, and a
   * filesystem in it is damaged, or one of the programs found something; `unproven`: a filesystem that was asked for could not be checked.
   */
  readonly verdict: 'proven' | 'sound' | 'damaged' | 'inconsistent' | 'unproven' | 'not-booting';
  readonly check: CheckSummary;
  /** Absent when it was not asked for, or when the check found damage. */
  readonly filesystems?: FilesystemCheckSummary;
  /** Absent when it was not asked for, or when the check found damage. */
  readonly boot?: BootTestSummary;
  readonly proof: readonly ProofLevel[];
}

// ---------------------------------------------------------------- restore

export interface RestoreMachineInput extends OperationTarget {
  readonly pointId?: string;
  readonly target: RestoreInput['target'];
  readonly layout?: RestoreInput['layout'];
  readonly boot?: BootPlan;
  /** Defined only if the boot test, where one was asked for, found the guest ready. */
  readonly define?: Definition;
  /** `discard`: the disks served a test only and are removed at the end, whatever it found. */
  readonly disks: 'keep' | 'discard';
}

export interface RestoreMachineResult {
  /** `restored`: no boot test was asked for, so nothing is proven. */
  readonly verdict: 'proven' | 'restored' | 'not-booting';
  readonly restore: RestoreSummary;
  readonly boot?: BootTestSummary;
  readonly define?: DefineSummary;
}

// ---------------------------------------------------------------- redeploy

export interface RedeployMachineInput extends OperationTarget {
  readonly pointId?: string;
  readonly target: RestoreInput['target'];
  readonly layout?: RestoreInput['layout'];
  /** Hardware profile of the new machine. */
  readonly profile: string;
  /** The original goes on running: ids, host keys and leases become the new machine's own. */
  readonly newIdentity?: boolean;
  /** Whether to compare every file of the edited disks with the point's. */
  readonly compare?: boolean;
  /** The boot test on the new hardware; its profile is `profile`. */
  readonly boot?: Omit<BootPlan, 'profile'>;
  readonly define?: Definition;
  /** `discard`: they served the boot test only and are removed at the end, whatever it found; then nothing is defined. Absent: keep. */
  readonly disks?: 'keep' | 'discard';
}

export interface RedeployMachineResult {
  /**
   * `refused`: the plan names what stands against it; the restored disks were removed. `not-booting`, and `differing` (files
   * differ from the point's that the edit does not name): they were kept for a look, and no machine was defined.
   */
  readonly verdict: 'proven' | 'redeployed' | 'refused' | 'differing' | 'not-booting';
  readonly restore: RestoreSummary;
  readonly plan: RedeployPlanSummary;
  readonly redeploy?: RedeploySummary;
  /** What differs must be what `redeploy.editedFiles` names. */
  readonly compare?: CompareFilesSummary;
  readonly boot?: BootTestSummary;
  readonly define?: DefineSummary;
}

// ---------------------------------------------------------------- pre-flight

/** Of a schedule's workflow: it belongs to a host, and to no machine. */
export interface PreflightRunInput {
  readonly hostId: string;
  readonly profiles: readonly string[];
}

// ---------------------------------------------------------------- requests

interface Inputs {
  backup: BackupMachineInput;
  verify: VerifyPointInput;
  restore: RestoreMachineInput;
  redeploy: RedeployMachineInput;
}

/** What is submitted to a machine. `requestId` ([a-z0-9-], at most 63) makes it idempotent; see `operationWorkflowId`. */
export type OperationRequest = {
  [K in OperationKind]: { readonly kind: K; readonly requestId: string; readonly input: Inputs[K] };
}[OperationKind];
