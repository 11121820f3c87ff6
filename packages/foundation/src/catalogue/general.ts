import type { Catalogue } from './entry.ts';

export const generalErrors = {
  'input.invalid': {
    retry: 'permanent',
    cause: 'A value that was passed in is not of the form this command takes.',
    impact: 'Nothing was started and nothing was changed.',
    next: 'Correct the value named in the message; --help shows the form and an example.',
  },
  'operation.cancelled': {
    retry: 'permanent',
    cause: 'The operation was cancelled by a person, a signal or the workflow that started it.',
    impact: 'What it had begun was undone; recovery points committed before are not affected.',
    next: 'Start it again when you are ready.',
  },
  'disk.full': {
    retry: 'permanent',
    cause: 'The filesystem that was written to has no space left.',
    impact: 'This operation stopped; nothing that was committed before is affected.',
    next: 'Free space on the filesystem named in the message, then start the operation again: it resumes where it can.',
  },
  'device.read-failed': {
    retry: 'transient',
    cause: 'A read from a disk, image or export failed.',
    impact: 'The operation that read stopped; no recovery point was committed from it.',
    next: 'Check the device or export named in the message and its host log, then start the operation again.',
  },
  'device.write-failed': {
    retry: 'permanent',
    cause: 'A write to the target disk or image failed.',
    impact: 'The target is incomplete and must not be used; the recovery point is not affected.',
    next: 'Check the target named in the message, then restore again.',
  },
  'internal.bug': {
    retry: 'permanent',
    cause: 'Lifeboat met a state that it holds to be impossible.',
    impact: 'The operation stopped before it could do harm.',
    next: 'Keep the message and the operation directory and report it.',
  },
} as const satisfies Catalogue;
