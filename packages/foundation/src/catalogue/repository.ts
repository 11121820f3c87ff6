import type { Catalogue } from './entry.ts';

export const repositoryErrors = {
  'repository.not-a-repository': {
    retry: 'permanent',
    cause: 'The place that was named holds no Lifeboat repository: its superblock is missing or is something else.',
    impact: 'Nothing was read and nothing was written there.',
    next: 'Check the path. A new repository is made by init; an empty directory may also be a disk that is not mounted.',
  },
  'repository.already-exists': {
    retry: 'permanent',
    cause: 'There is a repository already, or other files, where a new repository was to be made.',
    impact: 'Nothing was changed; what is there is untouched.',
    next: 'Open the repository that is there, or choose an empty directory for the new one.',
  },
  'repository.newer-version': {
    retry: 'permanent',
    cause: 'The repository, or an object in it, was written by a newer Lifeboat than this one.',
    impact: 'This program does not touch it, because it would have to guess what the newer format means.',
    next: 'Install the Lifeboat release that wrote it, or a later one, and repeat the command.',
  },
  'repository.wrong-passphrase': {
    retry: 'permanent',
    cause: 'No key of the repository opens with this passphrase.',
    impact: 'Nothing could be read; the repository is unharmed.',
    next: 'Check the passphrase (keyboard layout, trailing newline) and that this is the repository you mean.',
  },
  'repository.wrong-key-file': {
    retry: 'permanent',
    cause: 'No key of the repository opens with this key file.',
    impact: 'Nothing could be read; the repository is unharmed.',
    next: 'Use the key file that belongs to this repository, or its passphrase.',
  },
  'repository.key-file-unusable': {
    retry: 'permanent',
    cause: 'The key file is missing, has the wrong form, or can be read by other users.',
    impact: 'The repository was not opened.',
    next: 'Correct what the message names; a key file belongs to one user and has mode 0600.',
  },
  'repository.wrong-paper': {
    retry: 'permanent',
    cause: 'The printed page is of another repository or tenant, or its key slot was removed.',
    impact: 'Nothing could be read; the repository is unharmed.',
    next: 'Compare the ids on the page with "lifeboat repo info", which also lists the key slots that are left.',
  },
  'repository.paper-unusable': {
    retry: 'permanent',
    cause:
      'The file does not hold what a printed page says: something was mistyped, or the file is missing or open to others.',
    impact: 'The repository was not opened; nothing was tried with a wrong key.',
    next: 'Compare the lines that the message names with the page, digit by digit; the file needs mode 0600.',
  },
  'repository.kms-refused': {
    retry: 'permanent',
    cause:
      'The key management service did not unwrap the key: it was destroyed or disabled, or this account may not use it.',
    impact:
      'Nothing could be read. If the key was destroyed and there is no other way in, the data is gone for good, as intended.',
    next: 'Look at the key named in the message in the key service; enable it, or use another way in.',
  },
  'repository.kms-unreachable': {
    retry: 'transient',
    cause: 'The key management service, or the command that asks it, gave no answer.',
    impact: 'Nothing was read and nothing was changed.',
    next: 'Check the way to the key service, then repeat the command; another way in works meanwhile.',
  },
  'repository.not-shreddable': {
    retry: 'permanent',
    cause:
      'The tenant can be opened by something that no key service can destroy, or the key service did not destroy its key.',
    impact: 'What the message names still opens the data.',
    next: 'Remove the ways in that the message names (lifeboat repo keys remove), then repeat.',
  },
  'repository.tenant-missing': {
    retry: 'permanent',
    cause: 'The repository has no tenant of this name or id.',
    impact: 'Nothing was read and nothing was changed.',
    next: 'See the tenants with "lifeboat repo info".',
  },
  'repository.tenant-exists': {
    retry: 'permanent',
    cause: 'The repository has a tenant of this name already.',
    impact: 'Nothing was changed.',
    next: 'Choose another name, or open the tenant that is there.',
  },
  'repository.not-permitted': {
    retry: 'permanent',
    cause:
      'The repository was opened with keys that do not allow this: those of an agent are for backups, those of points for reading these.',
    impact: 'Nothing was read, changed or deleted.',
    next: 'Do it where the repository is administrated, with a way in of the tenant ("lifeboat repo keys list").',
  },
  'repository.agent-file-unusable': {
    retry: 'permanent',
    cause:
      'The file of an agent, or with keys of points, is missing, damaged, open to others, or of another repository.',
    impact: 'The repository was not opened.',
    next: 'Correct what the message names. A lost or damaged file is not made again: revoke the agent and enrol another.',
  },
  'repository.agent-expired': {
    retry: 'permanent',
    cause: 'The certificate of the agent has ended or not begun, or the clock of its host is wrong.',
    impact: 'No backup is made with it. Every recovery point it committed before stays as it is.',
    next: 'Check the clock of the host. If it is right, enrol the agent anew ("lifeboat repo agents enrol") and replace its file.',
  },
  'repository.agent-revoked': {
    retry: 'permanent',
    cause: 'Somebody revoked the agent ("lifeboat repo agents revoke"), or a point was committed by it after that.',
    impact:
      'The point does not count: nothing lists it as readable. Points that were there before the revocation stay as they are.',
    next: 'If the agent is still wanted, enrol it anew. A point that was made after a theft is not to be trusted: prune it.',
  },
  'repository.agent-exists': {
    retry: 'permanent',
    cause: 'An agent of that name is active, and two of one name could not be told apart.',
    impact: 'No agent was made.',
    next: 'Choose another name, or revoke the one that is there ("lifeboat repo agents list").',
  },
  'repository.agent-missing': {
    retry: 'permanent',
    cause: 'No agent has that name or id, or several have the name.',
    impact: 'Nothing was changed.',
    next: 'List the agents with "lifeboat repo agents list" and name one by its id.',
  },
  'repository.session-undecided': {
    retry: 'transient',
    cause:
      'A collection ended the session as dead while it committed, and stopped before it wrote down whether the point counts. An agent may not.',
    impact: 'The point is in the store. Whether it counts is open until the next collection.',
    next: 'Repeat the commit, or run "lifeboat repo prune": the next collection decides.',
  },
  'repository.key-slot-missing': {
    retry: 'permanent',
    cause: 'There is no way into the repository under this id.',
    impact: 'Nothing was changed.',
    next: 'See the ways in with "lifeboat repo keys list".',
  },
  'repository.last-key-slot': {
    retry: 'permanent',
    cause: 'Removing this way in would leave none, and the data could never be read again.',
    impact: 'Nothing was changed.',
    next: 'Add another way in first, try that it opens, then remove this one.',
  },
  'repository.keys-busy': {
    retry: 'transient',
    cause: 'Other programs changed the keys of this tenant again and again while this change was made.',
    impact: 'Nothing was changed by this command.',
    next: 'Repeat the command when nobody else changes keys.',
  },
  'repository.object-missing': {
    retry: 'permanent',
    cause: 'An object the repository refers to is not in the store: deleted, moved, or lost with a disk.',
    impact: 'Recovery points that need this object cannot be read in full; others are not affected.',
    next: 'Run a check of the points; bring the object back from a copy of the repository if there is one, then back up again.',
  },
  'repository.unknown-epoch': {
    retry: 'permanent',
    cause:
      'A pack was sealed with keys of an epoch that the keys which were opened do not hold: a newer key set is missing or damaged.',
    impact: 'What lies in that pack cannot be read with these keys. It is not damaged.',
    next: 'Look at lifeboat repo keys list, and bring back the newest objects under keys/ from a copy of the repository.',
  },
  'repository.object-damaged': {
    retry: 'permanent',
    cause: 'The bytes of an object are not what was written: a bad disk, a truncated copy, or somebody changed them.',
    impact: 'What this object holds cannot be trusted and was not used; other objects are not affected.',
    next: 'Check the storage below the repository, then run a check of the points to learn which disks are hit.',
  },
  'repository.object-unreadable': {
    retry: 'permanent',
    cause:
      'The disk that holds the repository reports an error for the bytes of one object: bad sectors, or a damaged filesystem.',
    impact: 'What this object holds could not be read, also not at a second attempt; other objects are not affected.',
    next: 'Check the disk and the kernel log of the machine that holds the repository; copy the repository while it can be read.',
  },
  'repository.chunk-damaged': {
    retry: 'permanent',
    cause: 'A part of a disk cannot be read back as it was written: its pack is missing, cut short or changed.',
    impact:
      'The byte range named in the message is lost in the points that share it; the rest of the disk is readable.',
    next: 'Check the storage below the repository; run a check of the point for the whole extent; the next backup of the machine heals what it still has.',
  },
  'repository.map-damaged': {
    retry: 'permanent',
    cause: 'A page of the table that says where the parts of a disk are stored cannot be read back as it was written.',
    impact: 'The byte range named in the message cannot be found in the points that share this page.',
    next: 'Check the storage below the repository; run a check of the point; the next backup of the machine reads it in full.',
  },
  'repository.point-damaged': {
    retry: 'permanent',
    cause: 'The object of a recovery point is not what was written, or is not signed by this repository.',
    impact: 'This recovery point cannot be used; other points of the machine are not affected.',
    next: 'Use another point. If nobody changed the store, check the storage below it.',
  },
  'repository.point-missing': {
    retry: 'permanent',
    cause: 'The machine has no recovery point of this name.',
    impact: 'Nothing was read.',
    next: 'List the points of the machine and choose one of them.',
  },
  'repository.point-exists': {
    retry: 'permanent',
    cause: 'A recovery point of this name, but with other content, was committed before.',
    impact: 'The earlier point stays as it is; this backup was not committed.',
    next: 'Start the backup again: it gets a new name and reuses what was already uploaded.',
  },
  'repository.disk-missing': {
    retry: 'permanent',
    cause: 'The recovery point holds no disk of this name.',
    impact: 'Nothing was read.',
    next: 'Choose one of the disks the message lists.',
  },
  'repository.sealing-mismatch': {
    retry: 'permanent',
    cause:
      'Data that had just been compressed and encrypted did not open again as what it was: faulty memory, processor or library.',
    impact: 'The damaged data was not uploaded and no recovery point was committed.',
    next: 'Test the memory of this machine before you trust any backup it makes; then start the backup again.',
  },
  'repository.sealing-failed': {
    retry: 'transient',
    cause: 'A thread that reads and encrypts the disk ended before its work was done.',
    impact: 'The backup stopped; nothing was committed; what was uploaded is reused by the next attempt.',
    next: 'Start the backup again; if it repeats, check the memory limits of the process.',
  },
  'repository.session-unusable': {
    retry: 'permanent',
    cause:
      'The operation directory holds the state of a backup of another machine or repository, or state that is damaged.',
    impact: 'The backup was not resumed; nothing was committed.',
    next: 'Start the backup as a new operation with a directory of its own.',
  },
  'repository.session-fenced': {
    retry: 'permanent',
    cause: 'The store holds a record that closes this backup session: it was held to be dead.',
    impact: 'The backup does not count as committed; points committed before are not affected.',
    next: 'Start the backup again; it begins a new session and reuses what is still there.',
  },
  'repository.parent-gone': {
    retry: 'transient',
    cause: 'The recovery point this backup was to build on was pruned while the backup was being prepared.',
    impact: 'Nothing was committed; other points are not affected.',
    next: 'Start the backup again: it builds on the newest point that is left, or reads everything.',
  },
  'repository.collection-refused': {
    retry: 'permanent',
    cause: 'What the store shows does not agree with what collection must be able to rely on.',
    impact: 'Nothing was deleted, and nothing will be until this is cleared up. Backups and restores go on.',
    next: 'See the message: bring back the points it names from a copy, or repair or prune a damaged one; then repeat the command.',
  },
  'repository.collection-running': {
    retry: 'transient',
    cause: 'Another collector published a condemn list at the same moment.',
    impact: 'This one stopped and deleted nothing; the other goes on.',
    next: 'Let one collector do the work; repeat the command when it is done.',
  },
  'repository.chain-busy': {
    retry: 'transient',
    cause: 'Other programs wrote links of the same machine again and again while this one wrote its own.',
    impact: 'The recovery point is committed and whole; it is in no link of its machine’s chain yet.',
    next: 'Nothing: the next backup of the machine, or the next "lifeboat repo prune", takes it in.',
  },
  'repository.object-busy': {
    retry: 'transient',
    cause: 'Other programs changed the same record of the control plane again and again while this change was made.',
    impact: 'Nothing was changed by this command.',
    next: 'Repeat the command.',
  },
  'repository.memory-unusable': {
    retry: 'permanent',
    cause: 'A file in which this host remembers the end of a machine’s chain cannot be read, or holds something else.',
    impact:
      'That the store went back to an earlier state would not be noticed by this host. Nothing else needs the file.',
    next: 'Remove the file that the message names; the next backup writes it anew.',
  },
  'repository.clocks-disagree': {
    retry: 'permanent',
    cause:
      'The clock of this machine and the times in the repository are further apart than clocks that are right can be.',
    impact: 'Nothing was pruned or deleted: retention by time would choose the wrong points.',
    next: 'Set the clock of the machine the message names (NTP), then repeat the command.',
  },
  'repository.point-held': {
    retry: 'permanent',
    cause: 'The recovery point, or its whole machine, is under a legal hold.',
    impact: 'The point stays. Nobody can prune it while the hold is there, by policy or by hand.',
    next: 'See the holds with "lifeboat repo hold list"; lifting one is an act of its own: "lifeboat repo hold lift".',
  },
  'repository.retention-refused': {
    retry: 'permanent',
    cause:
      'The rules of the repository do not allow this step now: it needs a request, an approval by another key slot, or time.',
    impact: 'Nothing was changed.',
    next: 'See what is asked for, by whom and what it waits for with "lifeboat repo requests list".',
  },
  'repository.retention-unreadable': {
    retry: 'permanent',
    cause:
      'An entry of the retention ledger is lost, damaged or not signed by this repository. It may have been a hold.',
    impact:
      'Nothing is pruned, and nothing that would let go of points is accepted. Backups, restores and holds go on.',
    next: 'Bring the object back from a copy of the repository. If there is none, "lifeboat repo policy write-off" goes on without it.',
  },
  'repository.retention-busy': {
    retry: 'transient',
    cause: 'Other programs changed policies, holds or requests again and again while this change was made.',
    impact: 'Nothing was changed by this command.',
    next: 'Repeat the command.',
  },
  'repository.evidence-busy': {
    retry: 'transient',
    cause: 'Other programs wrote evidence about this machine again and again while this record was made.',
    impact: 'What was found out is in the result of the operation, and not yet in the evidence of the repository.',
    next: 'Repeat the operation.',
  },
  'repository.limit-exceeded': {
    retry: 'permanent',
    cause: 'A value is larger than the repository format or this program holds to be sane.',
    impact: 'The operation stopped before it changed anything.',
    next: 'See the message for the limit and the value.',
  },
  'repository.store-denied': {
    retry: 'permanent',
    cause: 'The store refuses access: permissions, credentials, or a filesystem that is mounted read-only.',
    impact: 'The operation stopped; what was committed before is not affected.',
    next: 'Give the user or the credentials Lifeboat runs with the right named in the message, or mount the filesystem writable.',
  },
  'repository.object-locked': {
    retry: 'transient',
    cause: 'The object is under a retention lock, so the store keeps it until the lock ends, whoever asks.',
    impact: 'The object is still there and takes space; nothing else is affected.',
    next: 'Nothing needs to be done: collection tries again when the lock has ended. The message says when where the store tells.',
  },
  'repository.clock-skewed': {
    retry: 'permanent',
    cause: 'The clock of this machine and the clock of the S3 service are more than some minutes apart.',
    impact:
      'The operation stopped: retention and locks are reckoned by this clock, and a lock that is too long cannot be undone.',
    next: 'Set the clock of this machine (timedatectl, chrony) and start the operation again.',
  },
  'repository.store-unreachable': {
    retry: 'transient',
    cause:
      'The store does not answer: the directory is unmounted, unplugged or renamed, or the S3 endpoint cannot be reached.',
    impact: 'The operation stopped; what was committed before is not affected.',
    next: 'Mount or plug the disk again, or see that the endpoint in the message answers, then start the operation again.',
  },
  'repository.store-unsupported': {
    retry: 'permanent',
    cause:
      'The store lacks something that was asked of it, or has a rule that would break the repository; the message says which.',
    impact: 'Nothing was committed.',
    next: 'Change the setting of the store that the message names, or use another store.',
  },
  'repository.store-failed': {
    retry: 'transient',
    cause: 'The store returned an input or output error, or kept failing after several attempts.',
    impact: 'The operation stopped; what was committed before is not affected, and nothing is held to be damaged.',
    next: 'Check the disk and the kernel log of the machine that holds the repository, or the log of the S3 service, then start the operation again.',
  },
} as const satisfies Catalogue;
