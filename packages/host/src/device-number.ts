/** `st_dev` or `st_rdev` as the kernel and losetup write it (makedev(3), glibc's encoding). */
export function deviceNumber(n: bigint): string {
  const major = ((n >> 8n) & 0xfffn) | ((n >> 32n) & 0xfffff000n);
  const minor = (n & 0xffn) | ((n >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}
