import { MACHINE_POINT_LIMIT, MACHINE_QUEUE_LIMIT, MACHINE_RECENT_LIMIT } from '@lifeboat/contracts/workflow/machine';
import type {
  FinishedEntry,
  KnownPoint,
  MachineInput,
  MachineSnapshot,
  MachineStatus,
  OperationEntry,
  OperationFinished,
  OperationOutcome,
  SubmitReply,
} from '@lifeboat/contracts/workflow/machine';
import { operationWorkflowId } from '@lifeboat/contracts/workflow/names';
import type { OperationRequest, OperationTarget } from '@lifeboat/contracts/workflow/operations';
import type { ProofLevel } from '@lifeboat/contracts/workflow/verbs';
import type { ErrorCode } from '@lifeboat/foundation/catalogue';

// Becomes part of a workflow id and of what a person types.
const REQUEST_ID = /^[a-z0-9][a-z0-9-]{0,62}$/;

/**
 * What the machine entity knows, and every decision about it; time comes in as a value. The workflow beside it only wires
 * messages and children to these methods.
 *
 * Invariants: at most one running; a request is in one of queue, running, recent; each list below its limit.
 */
export class MachineState {
  readonly machineId: string;
  #running: MachineSnapshot['running'];
  #queue: OperationRequest[];
  #recent: FinishedEntry[];
  #points: KnownPoint[];
  #pointsInDoubt: boolean;
  #provenRtoMs: number | undefined;
  #withdrawn: boolean;
  #lastTarget: OperationTarget | undefined;

  constructor({ machineId, state }: MachineInput) {
    this.machineId = machineId;
    this.#running = state?.running;
    this.#queue = [...(state?.queue ?? [])];
    this.#recent = [...(state?.recent ?? [])];
    this.#points = [...(state?.points ?? [])];
    // A new entity knows nothing of what the bucket may hold already.
    this.#pointsInDoubt = state?.pointsInDoubt ?? true;
    this.#provenRtoMs = state?.provenRtoMs;
    this.#withdrawn = state?.withdrawn ?? false;
    this.#lastTarget = state?.lastTarget;
  }

  /** Why a request cannot be taken, or undefined. */
  refusal(request: OperationRequest): { code: ErrorCode; message: string } | undefined {
    const { machineId } = this;
    if (!REQUEST_ID.test(request.requestId)) {
      return { code: 'input.invalid', message: `'${request.requestId}' is no request id: ${String(REQUEST_ID)}` };
    }
    if (request.input.machineId !== machineId) {
      const message = `machine ${machineId} was sent a request for machine ${request.input.machineId}`;
      return { code: 'input.invalid', message };
    }
    if (this.#queue.length < MACHINE_QUEUE_LIMIT || this.#find(request.requestId)) return undefined;
    const message = `machine ${machineId} has ${this.#queue.length} operations waiting, the most it takes`;
    return { code: 'machine.queue-full', message };
  }

  /** Submitted twice, a request still runs once. */
  submit(request: OperationRequest): SubmitReply {
    if (!this.#find(request.requestId)) this.#queue.push(request);
    const place = this.#queue.findIndex(({ requestId }) => requestId === request.requestId);
    return { workflowId: workflowIdOf(request), ahead: place < 0 ? 0 : place + (this.#running ? 1 : 0) };
  }

  get running(): OperationEntry | undefined {
    return this.#running && entryOf(this.#running.request);
  }

  get canStart(): boolean {
    return !this.#running && this.#queue.length > 0;
  }

  /** Whether `running` has ended or is to be cancelled: waiting for it is over. */
  mustAct(running: OperationEntry): boolean {
    return this.#withdrawn || this.#running?.request.requestId !== running.requestId;
  }

  /** The next request becomes the running one; undefined while another runs or none waits. */
  startNext(nowMs: number): OperationRequest | undefined {
    if (this.#running) return undefined;
    const request = this.#queue.shift();
    if (request) this.#running = { request, startedMs: nowMs };
    return request;
  }

  withdraw(requestId: string, nowMs: number): void {
    const place = this.#queue.findIndex((request) => request.requestId === requestId);
    const [request] = place < 0 ? [] : this.#queue.splice(place, 1);
    if (request) this.#remember(request, 'withdrawn', nowMs);
    else if (this.#running?.request.requestId === requestId) this.#withdrawn = true;
  }

  /** The running operation, once after it was withdrawn. */
  takeWithdrawn(): OperationEntry | undefined {
    if (!this.#withdrawn) return undefined;
    this.#withdrawn = false;
    return this.running;
  }

  /** What an operation says when it ends. Late and repeated words add their evidence and change nothing else. */
  finished({ requestId, outcome, point, provenRtoMs }: OperationFinished, nowMs: number): void {
    if (point) this.#learn(point);
    if (provenRtoMs !== undefined) this.#provenRtoMs = provenRtoMs;
    if (this.#running?.request.requestId === requestId) this.#end(outcome, nowMs);
  }

  /** The running operation was found closed though it never said so; what it did to the points is not known. */
  lost(requestId: string, outcome: OperationOutcome, nowMs: number): void {
    if (this.#running?.request.requestId !== requestId) return;
    this.#pointsInDoubt = true;
    this.#end(outcome, nowMs);
  }

  /** Where the points should be read again: once idle, so that it delays nothing. */
  get refreshThrough(): OperationTarget | undefined {
    if (!this.#pointsInDoubt || this.#running || this.#queue.length > 0) return undefined;
    return this.#lastTarget;
  }

  /**
   * The repository's list replaces what was known; evidence stays with the points it names. Absent: it could not be read,
   * and is asked for again after the next operation.
   */
  refreshed(points: readonly Omit<KnownPoint, 'proof'>[] | undefined): void {
    if (!points) {
      this.#lastTarget = undefined;
      return;
    }
    this.#pointsInDoubt = false;
    const before = new Map(this.#points.map((point) => [point.pointId, point]));
    this.#points = [];
    for (const point of points) {
      const { proof = ['stored'], damagedAt = [] } = before.get(point.pointId) ?? {};
      // The list tells of damaged point objects only: what a check found elsewhere is as it was.
      this.#learn({ ...point, proof, ...(damagedAt.length > 0 ? { damaged: true, damagedAt } : {}) });
    }
  }

  status(): MachineStatus {
    const newest = this.#points.find(({ damaged }) => !damaged);
    const newestProven = this.#points.find(({ proof, damaged }) => !damaged && proof.includes('booted'));
    return {
      machineId: this.machineId,
      ...(this.#running ? { running: { ...entryOf(this.#running.request), startedMs: this.#running.startedMs } } : {}),
      queue: this.#queue.map(entryOf),
      recent: this.#recent,
      points: this.#points,
      ...(newest ? { newestInstantMs: newest.instantMs } : {}),
      ...(newestProven ? { newestProvenInstantMs: newestProven.instantMs } : {}),
      ...(this.#provenRtoMs === undefined ? {} : { provenRtoMs: this.#provenRtoMs }),
    };
  }

  snapshot(): MachineSnapshot {
    return {
      ...(this.#running ? { running: this.#running } : {}),
      queue: this.#queue,
      recent: this.#recent,
      points: this.#points,
      withdrawn: this.#withdrawn,
      pointsInDoubt: this.#pointsInDoubt,
      ...(this.#lastTarget ? { lastTarget: this.#lastTarget } : {}),
      ...(this.#provenRtoMs === undefined ? {} : { provenRtoMs: this.#provenRtoMs }),
    };
  }

  #find(requestId: string): boolean {
    return (
      this.#running?.request.requestId === requestId ||
      this.#queue.some((request) => request.requestId === requestId) ||
      this.#recent.some((entry) => entry.requestId === requestId)
    );
  }

  #end(outcome: OperationOutcome, nowMs: number): void {
    if (!this.#running) return;
    const { hostId, machineId, machine } = this.#running.request.input;
    this.#lastTarget = { hostId, machineId, machine };
    this.#remember(this.#running.request, outcome, nowMs);
    this.#running = undefined;
    this.#withdrawn = false;
  }

  #remember(request: OperationRequest, outcome: OperationOutcome, nowMs: number): void {
    this.#recent.push({ ...entryOf(request), outcome, endedMs: nowMs });
    this.#recent.splice(0, this.#recent.length - MACHINE_RECENT_LIMIT);
  }

  #learn(point: KnownPoint): void {
    const known = this.#points.find(({ pointId }) => pointId === point.pointId);
    // Evidence adds up, unless damage was found: then only what is known from now on counts.
    const earlier = point.damaged ? [] : (known?.proof ?? []);
    const proof = [...new Set<ProofLevel>([...earlier, ...point.proof])];
    // A shallower look that finds nothing says nothing about what a deeper one found.
    const found = new Set<ProofLevel>([...(known?.damagedAt ?? []), ...(point.damagedAt ?? [])]);
    const damagedAt = [...found].filter((level) => point.damaged || !point.proof.includes(level));
    const { pointId } = point;
    this.#points = [
      ...this.#points.filter((other) => other.pointId !== pointId),
      {
        pointId,
        instantMs: known?.instantMs ?? point.instantMs,
        proof,
        ...(point.damaged || damagedAt.length > 0 ? { damaged: true as const } : {}),
        ...(damagedAt.length > 0 ? { damagedAt } : {}),
      },
    ]
      .sort((a, b) => b.instantMs - a.instantMs)
      .slice(0, MACHINE_POINT_LIMIT);
  }
}

function workflowIdOf(request: OperationRequest): string {
  return operationWorkflowId(request.kind, { machineId: request.input.machineId, requestId: request.requestId });
}

function entryOf(request: OperationRequest): OperationEntry {
  return { requestId: request.requestId, kind: request.kind, workflowId: workflowIdOf(request) };
}
