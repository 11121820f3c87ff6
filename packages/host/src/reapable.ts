import type { HostId, OpId } from '@lifeboat/foundation/ids';

/** Something outside the operation's directory that carries the tag of its operation: a domain, a network, a backup job. */
export interface ReapableItem {
  /** For the report: `domain`, `network`, `backup-job`, `export`. */
  readonly kind: string;
  readonly name: string;
  readonly opId: OpId;
  /** The host whose agent made it. Items of other hosts (several may share one libvirt) are not touched. */
  readonly hostId: HostId;
}

/** What the reaper needs to know of a place where tagged things are kept. */
export interface Reapable {
  /** Everything that is tagged; things without a tag never appear. */
  list(): Promise<ReapableItem[]>;
  /** Idempotent: an item that is gone already is fine. */
  remove(item: ReapableItem): Promise<void>;
}
