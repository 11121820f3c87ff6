/** Shows the stages of one operation to a person. */
export interface Display {
  /** A line that stays, above what is still moving. */
  note(line: string): void;
  /** Draws the final state and gives the stream back. Idempotent. */
  close(): void;
}

/** What a display writes to: a terminal or a pipe. */
export interface DisplayStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
  write(text: string): unknown;
  on?(event: 'resize', listener: () => void): unknown;
  off?(event: 'resize', listener: () => void): unknown;
}

/** A terminal that does not know its size says 0, as a serial console does and many a container's. */
export function sizeOf(
  stream: Pick<DisplayStream, 'columns' | 'rows'>,
  side: 'columns' | 'rows',
  usual: number,
): number {
  const size = stream[side];
  return size === undefined || size === 0 ? usual : size;
}

export const silentDisplay: Display = { note() {}, close() {} };
