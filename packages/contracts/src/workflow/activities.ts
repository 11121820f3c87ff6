/** What workflows may ask of the world. Verbs run on the host's queue, the rest beside the workflows. */
import type { LeaseRequest, ReapInput, ReapSummary } from './host.ts';
import type {
  AbandonInput,
  BootTestInput,
  BootTestSummary,
  CaptureInput,
  CaptureSummary,
  CheckInput,
  CheckSummary,
  CompareFilesInput,
  CompareFilesSummary,
  DefineInput,
  DefineSummary,
  FilesystemCheckInput,
  FilesystemCheckSummary,
  LinkInput,
  LinkSummary,
  ListPointsInput,
  PointSummary,
  PreflightInput,
  PreflightSummary,
  RedeployInput,
  RedeployPlanSummary,
  RedeploySummary,
  RestoreInput,
  RestoreSummary,
} from './verbs.ts';

/** On `agent/<hostId>`. Each may be called again with the same `opId`, after any kind of death. */
export interface HostActivities {
  captureMachine(input: CaptureInput): Promise<CaptureSummary>;
  checkPoint(input: CheckInput): Promise<CheckSummary>;
  checkFilesystems(input: FilesystemCheckInput): Promise<FilesystemCheckSummary>;
  bootTest(input: BootTestInput): Promise<BootTestSummary>;
  restoreDisks(input: RestoreInput): Promise<RestoreSummary>;
  planRedeploy(input: RedeployInput): Promise<RedeployPlanSummary>;
  applyRedeploy(input: RedeployInput): Promise<RedeploySummary>;
  preflight(input: PreflightInput): Promise<PreflightSummary>;
  defineMachine(input: DefineInput): Promise<DefineSummary>;
  compareFiles(input: CompareFilesInput): Promise<CompareFilesSummary>;
  abandonOperation(input: AbandonInput): Promise<void>;
  listPoints(input: ListPointsInput): Promise<PointSummary[]>;
  /** After a commit, by the operation that its machine's entity runs: one at a time. */
  linkPoints(input: LinkInput): Promise<LinkSummary>;
  reap(input: ReapInput): Promise<ReapSummary>;
}

/** On the central queue. */
export interface CentralActivities {
  /** Same order as asked. */
  describeWorkflows(input: { readonly workflowIds: readonly string[] }): Promise<WorkflowStanding[]>;
  /** Starts the host's entity if it is not there. */
  requestLease(input: { readonly hostId: string; readonly request: LeaseRequest }): Promise<void>;
}

/** `absent`: never started, or past the server's retention. */
export type WorkflowStanding = 'running' | 'completed' | 'failed' | 'cancelled' | 'terminated' | 'timed-out' | 'absent';

/** What an activity's failure carries in `details[0]`, beside its type, which is the error's code. */
export interface FailureDetails {
  readonly message: string;
  readonly context: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly cause: string;
  readonly impact: string;
  readonly next: string;
}
