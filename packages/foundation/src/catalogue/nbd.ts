import type { Catalogue } from './entry.ts';

export const nbdErrors = {
  'nbd.connect-failed': {
    retry: 'transient',
    cause:
      'No NBD server accepts connections on this socket: it has not started yet, it has ended, or this user may not open the socket.',
    impact: 'The disk behind the export cannot be read; nothing was started on it.',
    next: 'Check that the process that serves the export runs and that this user may write to the socket named in the message, then try again.',
  },
  'nbd.connection-lost': {
    retry: 'transient',
    cause: 'The NBD server closed the connection or ended while requests were open.',
    impact:
      'The operation that read from or wrote to the export stopped; what it had read so far is discarded, and recovery points committed before are not affected.',
    next: 'Look into the log of the process that serves the export (QEMU, qemu-nbd, nbdkit or Lifeboat), start it again if it ended, then start the operation again.',
  },
  'nbd.timeout': {
    retry: 'transient',
    cause: 'The NBD server accepted a request and did not answer it in time; most often the storage below it hangs.',
    impact: 'The connection was given up, with every request on it; recovery points committed before are not affected.',
    next: 'Check the storage of the host that serves the export, then start the operation again.',
  },
  'nbd.protocol-error': {
    retry: 'permanent',
    cause:
      'The other side of an NBD connection sent bytes that the protocol does not allow: it is damaged, of an unknown kind, or hostile.',
    impact: 'The connection was closed at once and nothing it had delivered for open requests was used.',
    next: 'Check what really listens on the socket named in the message and which version it has; report it together with the message if it is QEMU, nbdkit or Lifeboat.',
  },
  'nbd.unsupported': {
    retry: 'permanent',
    cause:
      'The NBD server is sound but cannot do what is needed here, for example because it insists on TLS or speaks the old handshake only.',
    impact: 'The export was not opened, or the one request was refused; nothing was changed.',
    next: 'Serve the disk with a server that has the feature named in the message, such as QEMU 6 or newer, nbdkit 1.20 or newer, or Lifeboat itself.',
  },
  'nbd.export-unknown': {
    retry: 'permanent',
    cause:
      'The NBD server has no export of this name: the backup job that offered it has ended, or the name is misspelt.',
    impact: 'The disk was not opened and nothing was read.',
    next: 'List the exports of the socket (nbdinfo --list), correct the name, or start the backup job again.',
  },
  'nbd.export-refused': {
    retry: 'permanent',
    cause: 'The NBD server knows the export and refused to open it; its own words are in the message.',
    impact: 'The disk was not opened and nothing was read.',
    next: 'Resolve what the server says in the message, then start the operation again.',
  },
  'nbd.context-missing': {
    retry: 'permanent',
    cause:
      'The export does not offer a kind of block status that was asked for; for a dirty bitmap, the bitmap is gone, inconsistent, or was not exported.',
    impact: 'What changed on the disk is not known from this export; its content can still be read in full.',
    next: 'Take a full read with comparison instead of an incremental one, and a new checkpoint afterwards.',
  },
  'nbd.status-failed': {
    retry: 'transient',
    cause: 'The NBD server answered a question about allocated or changed blocks with an error.',
    impact:
      'The operation stopped because it does not guess which blocks matter; recovery points committed before are not affected.',
    next: 'Check the disk behind the export and the log of its server, then start the operation again.',
  },
  'nbd.too-fragmented': {
    retry: 'permanent',
    cause: 'One question about block status was answered with more runs than are held in memory at once.',
    impact: 'The question was given up to protect the memory of this process; nothing was read or written.',
    next: 'Ask for the status of a smaller range at a time; if it came from an ordinary backup, report it with the message.',
  },
  'nbd.read-only': {
    retry: 'permanent',
    cause: 'The export was opened for reading only by its server, and something tried to write to it.',
    impact: 'Nothing was written.',
    next: 'Serve the target disk writable (for example qemu-nbd without -r), or choose another target.',
  },
  'nbd.socket-in-use': {
    retry: 'permanent',
    cause: 'Another process already serves on the socket that this NBD server was to use.',
    impact: 'This server did not start; the other one was left alone.',
    next: 'Stop the other process, or let this server use another socket path.',
  },
  'nbd.listen-failed': {
    retry: 'permanent',
    cause:
      'The socket for an NBD server could not be made: the directory is missing, not writable, or holds something else under that name.',
    impact: 'The export is not served, so nothing can be booted or read from it; the data behind it is not affected.',
    next: 'Check the directory named in the message and its permissions, then start the operation again.',
  },
} as const satisfies Catalogue;
