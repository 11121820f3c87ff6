/**
 * The rules collection rests on, each by its name. All hold, always; a simulation takes one away at a time and must then lose data,
 * which shows that the simulation would notice, and that the rule is needed.
 */
export interface SafetyRules {
  /** Delete only what is dead in a second mark, after the sessions are over. */
  readonly markAgain: boolean;
  /** Sweep only when every session that may not know the list is over. */
  readonly waitForSessions: boolean;
  /** A session that is held to be dead gets a fence and an outcome before it counts as over. */
  readonly fenceBeforeSweep: boolean;
  /** The points are listed after the fence was written, not before. */
  readonly listAfterFence: boolean;
  /** A point whose session has an outcome that does not name it is no point. */
  readonly heedOutcome: boolean;
  /** A writer looks for a fence after its PUT, before it reports success. */
  readonly checkFenceAfterCommit: boolean;
  /** A writer does not refer to what a condemn list names. */
  readonly avoidCondemned: boolean;
  /** Nor to what the newest list names once it was swept: a collector that was frozen may still delete it. */
  readonly avoidSwept: boolean;
  /** A writer reads the condemn lists again once its session is open. */
  readonly readListsAfterOpen: boolean;
  /** What is sealed after a condemn list is sealed under its generation, so that no condemned name comes back. */
  readonly sealUnderGeneration: boolean;
  /** What is taken over comes from a point that is valid after the session was opened. */
  readonly checkParent: boolean;
  /** A point that was pruned after the first mark stays alive in the second. */
  readonly prunedInBothMarks: boolean;
  /** A listing that fails ends the collection. */
  readonly refuseFailedListing: boolean;
  /** A point that the last list or a chain names, and that has no tombstone, must be there. */
  readonly refuseVanishedPoints: boolean;
  /** A pack is given up for its copies only when one relocation holds every blob of it that is needed. */
  readonly moveEveryBlob: boolean;
  /** The second mark looks for blobs of moved packs that points need which came since the first. */
  readonly lookAgain: boolean;
  /** A relocation counts only where what it leads to is on no list that may still be swept. */
  readonly avoidCondemnedTargets: boolean;
  /** Relocations of a pack that was deleted stay as long as a point names it. */
  readonly keepRelocations: boolean;
  /** When copies are moved on, the relocations that led to them are written anew. */
  readonly leadSourcesOn: boolean;
  /** What healing led to stays as long as a point names the pack it leads from. */
  readonly keepHealed: boolean;
  /** Neither end of that is written anew: nothing says which of its blobs are needed. */
  readonly leaveHealed: boolean;
  /** A writer does not refer to a place that a report names. */
  readonly avoidDamaged: boolean;
  /** An agent looks for a revocation after its PUT, before it reports success. */
  readonly checkRevocationAfterCommit: boolean;
  /** Who revokes an agent lists its points once more when the revocation is written: they count. */
  readonly listAfterRevocation: boolean;
}

export const SAFETY_RULES: SafetyRules = {
  markAgain: true,
  waitForSessions: true,
  fenceBeforeSweep: true,
  listAfterFence: true,
  heedOutcome: true,
  checkFenceAfterCommit: true,
  avoidCondemned: true,
  avoidSwept: true,
  readListsAfterOpen: true,
  sealUnderGeneration: true,
  checkParent: true,
  prunedInBothMarks: true,
  refuseFailedListing: true,
  refuseVanishedPoints: true,
  moveEveryBlob: true,
  lookAgain: true,
  avoidCondemnedTargets: true,
  keepRelocations: true,
  leadSourcesOn: true,
  keepHealed: true,
  leaveHealed: true,
  avoidDamaged: true,
  checkRevocationAfterCommit: true,
  listAfterRevocation: true,
};
