import { HOST_WAITING_LIMIT } from '@lifeboat/contracts/workflow/host';
import type {
  HostInput,
  HostRegistration,
  HostResources,
  HostSnapshot,
  HostStatus,
  Lease,
  LeaseAnswer,
  LeaseRequest,
  ReapInput,
  ReapNote,
} from '@lifeboat/contracts/workflow/host';

const NOTHING: HostResources = { slots: 0, domains: 0, scratchBytes: 0 };

export interface Answer {
  readonly holder: string;
  readonly answer: LeaseAnswer;
}

/**
 * What the host entity knows, and every decision about it; time comes in as a value.
 *
 * Invariants: the sum of all leases is within capacity whenever one is granted; a holder is in one of waiting, leases;
 * requests are granted in the order they came (the first that does not fit holds back those behind it, so that a large one
 * is not starved); the epoch rises whenever the set of live operations changes.
 */
export class HostState {
  readonly hostId: string;
  #capacity: HostResources | undefined;
  #epoch: number;
  #leases: Lease[];
  #waiting: LeaseRequest[];
  #answers: Answer[];
  #lastReap: ReapNote | undefined;

  constructor({ hostId, state }: HostInput, nowMs: number) {
    this.hostId = hostId;
    this.#capacity = state?.capacity;
    this.#epoch = state?.epoch ?? nowMs;
    this.#leases = [...(state?.leases ?? [])];
    this.#waiting = [...(state?.waiting ?? [])];
    this.#answers = [...(state?.answers ?? [])];
    this.#lastReap = state?.lastReap;
  }

  /** A lower capacity takes nothing away: what is leased stays, and nothing is granted until it fits again. */
  register({ capacity }: HostRegistration, nowMs: number): void {
    this.#capacity = capacity;
    this.#grant(nowMs);
  }

  request(request: LeaseRequest, nowMs: number): void {
    const { holder } = request;
    const lease = this.#leases.find((held) => held.holder === holder);
    if (lease) this.#answer(holder, { kind: 'granted', epoch: lease.epoch });
    else if (this.#waiting.some((waiting) => waiting.holder === holder)) return;
    else if (this.#waiting.length >= HOST_WAITING_LIMIT) {
      this.#answer(holder, { kind: 'refused', reason: `${HOST_WAITING_LIMIT} operations wait for it already` });
    } else this.#waiting.push(request);
    this.#grant(nowMs);
  }

  /** Ends the holder's lease or its wait; unknown holders are ignored. */
  release(holder: string, nowMs: number): void {
    if (this.#leases.some((lease) => lease.holder === holder)) this.#epoch++;
    this.#leases = this.#leases.filter((lease) => lease.holder !== holder);
    this.#waiting = this.#waiting.filter((waiting) => waiting.holder !== holder);
    this.#answers = this.#answers.filter((answer) => answer.holder !== holder);
    this.#grant(nowMs);
  }

  get hasAnswer(): boolean {
    return this.#answers.length > 0;
  }

  takeAnswer(): Answer | undefined {
    return this.#answers.shift();
  }

  /** Everybody who must still be there: holders of leases and those who wait. */
  get holders(): readonly string[] {
    return [...this.#leases, ...this.#waiting].map(({ holder }) => holder);
  }

  get liveSet(): ReapInput {
    return { liveOps: this.#leases.flatMap(({ opIds }) => opIds), epoch: this.#epoch };
  }

  /** Without a registered agent there is nobody to reap. */
  get registered(): boolean {
    return this.#capacity !== undefined;
  }

  reaped(note: ReapNote): void {
    this.#lastReap = note;
  }

  status(): HostStatus {
    return {
      hostId: this.hostId,
      ...(this.#capacity ? { capacity: this.#capacity } : {}),
      used: this.#used,
      epoch: this.#epoch,
      leases: this.#leases,
      waiting: this.#waiting,
      ...(this.#lastReap ? { lastReap: this.#lastReap } : {}),
    };
  }

  snapshot(): HostSnapshot {
    return {
      ...(this.#capacity ? { capacity: this.#capacity } : {}),
      epoch: this.#epoch,
      leases: this.#leases,
      waiting: this.#waiting,
      answers: this.#answers,
      ...(this.#lastReap ? { lastReap: this.#lastReap } : {}),
    };
  }

  get #used(): HostResources {
    return this.#leases.reduce((sum, { need }) => plus(sum, need), NOTHING);
  }

  #grant(nowMs: number): void {
    const capacity = this.#capacity;
    if (!capacity) return;
    for (let next = this.#waiting[0]; next; next = this.#waiting[0]) {
      const { holder, need } = next;
      if (!fits(need, capacity)) {
        this.#answer(holder, { kind: 'refused', reason: `needs ${inWords(need)}, the host has ${inWords(capacity)}` });
      } else if (fits(plus(this.#used, need), capacity)) {
        this.#epoch++;
        this.#leases.push({ ...next, epoch: this.#epoch, grantedMs: nowMs });
        this.#answer(holder, { kind: 'granted', epoch: this.#epoch });
      } else return;
      this.#waiting.shift();
    }
  }

  #answer(holder: string, answer: LeaseAnswer): void {
    this.#answers = [...this.#answers.filter((given) => given.holder !== holder), { holder, answer }];
  }
}

function plus(a: HostResources, b: HostResources): HostResources {
  return { slots: a.slots + b.slots, domains: a.domains + b.domains, scratchBytes: a.scratchBytes + b.scratchBytes };
}

function fits(need: HostResources, room: HostResources): boolean {
  return need.slots <= room.slots && need.domains <= room.domains && need.scratchBytes <= room.scratchBytes;
}

function inWords({ slots, domains, scratchBytes }: HostResources): string {
  return `${slots} slots, ${domains} domains, ${scratchBytes} bytes of scratch`;
}
