/** What one server gives at most. Every client is treated as one that may be broken or hostile. */
export interface NbdServerLimits {
  /** Further connections are closed at once. */
  readonly maxConnections: number;
  /** Bytes of replies that are being read or wait in the socket, per connection. A client that does not read stops here. */
  readonly maxInFlightBytes: number;
  /** Largest read; announced to the client. Also what one connection may hold when it exceeds `maxInFlightBytes`. */
  readonly maxRequestBytes: number;
  /** Requests of one connection that are worked on at once. */
  readonly maxInFlightRequests: number;
  /** From connect to the end of the handshake. */
  readonly handshakeTimeoutMs: number;
  /** How long close() waits for replies that are under way. */
  readonly closeTimeoutMs: number;
}

export const DEFAULT_LIMITS: NbdServerLimits = {
  maxConnections: 32,
  maxInFlightBytes: 16 * 1024 * 1024,
  maxRequestBytes: 32 * 1024 * 1024,
  maxInFlightRequests: 32,
  handshakeTimeoutMs: 10_000,
  closeTimeoutMs: 5000,
};

/** An option holds a few names of 4 KiB each; nothing sound is longer. */
export const MAX_OPTION_BYTES = 64 * 1024;
/** A client opens an export with three or four; answers wait in memory until it reads them. */
export const MAX_OPTIONS = 256;
/** One reply holds 32 KiB of runs; the client asks again for the rest. */
export const MAX_STATUS_ENTRIES = 4096;
/** A block status reply looks no further, so that a map of a huge disk is never walked for one answer. */
export const MAX_STATUS_BYTES = 1024 * 1024 * 1024;
/** Smaller reads gain nothing from being told about holes. */
export const MIN_HOLE_READ_BYTES = 64 * 1024;
