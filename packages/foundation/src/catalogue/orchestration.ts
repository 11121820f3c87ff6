import type { Catalogue } from './entry.ts';

/** What workflows, workers and the Temporal server itself can say. */
export const orchestrationErrors = {
  'machine.queue-full': {
    retry: 'transient',
    cause: 'More operations wait for this machine than it takes at once.',
    impact: 'The new operation was not queued; the waiting ones go on.',
    next: 'Look at what is running on the machine (it may hang), withdraw what is not needed, then submit again.',
  },
  'lease.refused': {
    retry: 'permanent',
    cause:
      'The operation needs more of the host than the host has in total, or too many operations wait for it already.',
    impact: 'The operation did not start; nothing was changed.',
    next: "Compare the need named in the message with the host's capacity; raise the capacity or choose another host.",
  },
  'lease.timeout': {
    retry: 'transient',
    cause:
      'The host had no room for the operation for the whole time it was willing to wait, or its agent never registered.',
    impact: 'The operation did not start; nothing was changed.',
    next: "Check that the host's agent runs and what holds the host's slots, then submit the operation again.",
  },
  'temporal.missing': {
    retry: 'permanent',
    cause: 'The program `temporal` that runs the embedded server was not found.',
    impact: 'Nothing was started.',
    next: 'Set LIFEBOAT_TEMPORAL to its path, put it on PATH, or set LIFEBOAT_TEMPORAL_ADDRESS to a running server.',
  },
  'temporal.unreachable': {
    retry: 'transient',
    cause: 'The Temporal server does not answer at the configured address.',
    impact: 'This process can neither submit nor execute work; recovery points are not affected.',
    next: 'Check the address and that the server runs; `lifeboat up` starts an embedded one.',
  },
} as const satisfies Catalogue;
