import type { Catalogue } from './entry.ts';

export const libvirtErrors = {
  'libvirt.not-running': {
    retry: 'transient',
    cause: 'Nothing listens on the libvirt socket: the libvirt daemon is not running or listens somewhere else.',
    impact: 'No virtual machine can be listed, backed up or started. Running guests go on undisturbed.',
    next: 'Start it (`systemctl start libvirtd`, or `virtlogd -d && libvirtd -d` without systemd), or correct the socket path.',
  },
  'libvirt.not-permitted': {
    retry: 'permanent',
    cause: 'The libvirt daemon runs, but this user may not use it: the socket, its access list or polkit said no.',
    impact: 'Nothing was started and nothing was changed.',
    next: 'Run as root, or add the user to the group that owns the libvirt socket (usually `libvirt`) and log in again.',
  },
  'libvirt.connection-lost': {
    retry: 'transient',
    cause:
      'The connection to the libvirt daemon ended while it was in use: the daemon stopped, restarted, or was killed.',
    impact:
      'Whether the call in flight took effect is not known. Guests go on, but those started with auto-destroy end.',
    next: 'Check the daemon and its log (`journalctl -u libvirtd`); then start the operation again: it adopts what is there.',
  },
  'libvirt.timeout': {
    retry: 'transient',
    cause: 'The libvirt daemon did not answer in time. It may be busy with this machine, or hang on its monitor.',
    impact: 'Whether the call took effect is not known; it may still be under way inside the daemon.',
    next: 'Look at the machine with `virsh domjobinfo` and `virsh list`; then start the operation again.',
  },
  'libvirt.protocol-error': {
    retry: 'permanent',
    cause: 'What arrived on the socket is not the libvirt protocol, or is larger than the protocol allows.',
    impact: 'The connection was closed; nothing that was received in it was used.',
    next: 'Check that the socket path names a libvirt daemon, and its version; keep the message and report it.',
  },
  'libvirt.too-many-calls': {
    retry: 'transient',
    cause: 'More calls wait on one libvirt connection than Lifeboat allows itself: the daemon is slow or hangs.',
    impact: 'The call was not sent; the calls before it still wait for their answers.',
    next: 'Check the daemon (`virsh list` answers in well below a second), then start the operation again.',
  },
  'libvirt.stream-overrun': {
    retry: 'permanent',
    cause: 'A console or screenshot stream delivered more than its reader took, up to the limit of the buffer.',
    impact: 'The stream was closed; the machine and the other calls of the connection are not affected.',
    next: 'Open the stream again, on a connection of its own if its reader is slow.',
  },
  'libvirt.stream-failed': {
    retry: 'transient',
    cause: 'libvirt ended a console or screenshot stream with an error, usually because the machine stopped.',
    impact: 'What was read before is complete up to that point; nothing else is affected.',
    next: 'Check whether the machine still runs, then open the stream again.',
  },
  'libvirt.no-such-domain': {
    retry: 'permanent',
    cause: 'libvirt knows no virtual machine of this name or UUID; a transient one is gone once it stops.',
    impact: 'Nothing was started and nothing was changed.',
    next: 'List the machines with `virsh list --all` and correct the name.',
  },
  'libvirt.no-such-network': {
    retry: 'permanent',
    cause: 'libvirt knows no network of this name; a transient one is gone once it stops.',
    impact: 'Machines that need this network cannot start; running ones are not affected.',
    next: 'List the networks with `virsh net-list --all`, then define the network or correct the name.',
  },
  'libvirt.no-such-checkpoint': {
    retry: 'permanent',
    cause: 'The machine has no checkpoint of this name: it was deleted, or the machine was defined anew.',
    impact: 'Change tracking from that checkpoint cannot be used; backups fall back to a full comparison.',
    next: 'Nothing needs to be done: the next backup begins a new checkpoint and says why it read everything.',
  },
  'libvirt.checkpoint-inconsistent': {
    retry: 'permanent',
    cause:
      'The dirty bitmap behind the checkpoint is missing or marked inconsistent: QEMU or the host ended without a clean stop.',
    impact: 'Change tracking from that checkpoint cannot be trusted; earlier recovery points are not affected.',
    next: 'Nothing needs to be done: the next backup compares everything and begins a new checkpoint.',
  },
  'libvirt.no-backup-job': {
    retry: 'permanent',
    cause: 'No backup job runs in this machine: it ended, was aborted, or the machine was stopped.',
    impact: 'The export of that backup is gone; the recovery point under way cannot be completed from it.',
    next: 'Start the backup again: it takes a new instant; data stored before is reused.',
  },
  'libvirt.busy': {
    retry: 'transient',
    cause: 'Another job holds the machine: a backup, migration, snapshot or save, by Lifeboat or somebody else.',
    impact: 'The call was not carried out; the other job goes on.',
    next: 'See `virsh domjobinfo`; wait for the other job, then start the operation again.',
  },
  'libvirt.exists': {
    retry: 'permanent',
    cause: 'A machine or network of this name or UUID is there already.',
    impact: 'Nothing was created and the existing one was not changed.',
    next: 'Choose another name, or remove the existing one first.',
  },
  'libvirt.invalid-definition': {
    retry: 'permanent',
    cause: 'libvirt refused a definition as malformed, or as not possible on this host.',
    impact: 'Nothing was created and nothing was changed.',
    next: 'Read what libvirt says in the message; if Lifeboat wrote the definition, report it with the libvirt version.',
  },
  'libvirt.unsupported': {
    retry: 'permanent',
    cause: 'This libvirt or QEMU version, or this machine as it is configured, does not offer what was asked for.',
    impact: 'The call was not carried out; nothing was changed.',
    next: 'Read what libvirt says in the message: a device (such as the guest agent channel) or a newer version is needed.',
  },
  'libvirt.wrong-state': {
    retry: 'permanent',
    cause: 'The machine, network or checkpoint is not in the state that the call needs, such as running or shut off.',
    impact: 'The call was not carried out; nothing was changed.',
    next: 'Check the state with `virsh domstate`, bring it into the state named in the message, and try again.',
  },
  'libvirt.agent-unresponsive': {
    retry: 'transient',
    cause: 'The guest agent does not answer: it is not installed, not started yet, or the guest hangs.',
    impact:
      'Filesystems cannot be frozen, so a recovery point taken now is crash consistent. The machine is not affected.',
    next: 'Install and start qemu-guest-agent in the guest; check with `virsh qemu-agent-command NAME \'{"execute":"guest-ping"}\'`.',
  },
  'libvirt.agent-failed': {
    retry: 'permanent',
    cause: 'The guest agent answered that it could not do what it was asked to do.',
    impact: 'The command had no effect in the guest, or only part of it; the machine runs on.',
    next: 'Read what the agent says in the message, and its log in the guest.',
  },
  'libvirt.operation-failed': {
    retry: 'permanent',
    cause: 'libvirt or QEMU tried to carry out the call and failed.',
    impact: 'The call had no effect unless the message says otherwise.',
    next: "Read what libvirt says in the message, and the machine's log below /var/log/libvirt/qemu.",
  },
  'libvirt.call-failed': {
    retry: 'permanent',
    cause: 'libvirt answered the call with an error that Lifeboat has no entry of its own for.',
    impact: 'The call was not carried out unless the message says otherwise.',
    next: 'Read what libvirt says in the message, and its log (`journalctl -u libvirtd`).',
  },
} as const satisfies Catalogue;
