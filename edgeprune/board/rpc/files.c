/* Files of the board. Paths come absolute; what they may be was checked where they were named. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { MOST_READ = 1 << 20 };

/* All folders of a path; with last, the path itself too. */
static int make_folders(const char *path, int last) {
  char folder[PATH_MAX];
  size_t size = strlen(path);
  if (size >= sizeof folder) return ENAMETOOLONG;
  memcpy(folder, path, size + 1);
  for (char *at = folder + 1;; at++) {
    if (*at && *at != '/') continue;
    char was = *at;
    if (!was && !last) return 0;
    *at = 0;
    if (mkdir(folder, 0777) && errno != EEXIST) return errno;
    if (!was) return 0;
    *at = was;
  }
}

static int sync_folder_of(const char *path) {
  char folder[PATH_MAX];
  const char *slash = strrchr(path, '/');
  size_t size = slash ? (size_t)(slash - path) : 0;
  if (size >= sizeof folder) return ENAMETOOLONG;
  memcpy(folder, path, size);
  memcpy(folder + size, size ? "" : "/", size ? 1 : 2);
  int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno;
  /* Some file systems cannot sync a folder: there is nothing more to be had. */
  int status = fsync(fd) && errno != EINVAL ? errno : 0;
  close(fd);
  return status;
}

/* [text folder, "" for ~/.edgeprune] -> [bytes absolute folder] */
int file_root(reader *in, writer *out) {
  const char *folder = read_text(in);
  char path[PATH_MAX];
  if (in->bad) return EINVAL;
  if (!*folder) {
    const char *home = getenv("HOME");
    if (!home || *home != '/') {
      struct passwd *user = getpwuid(getuid());
      home = user ? user->pw_dir : "";
    }
    if (*home != '/') return ENOENT;
    if (snprintf(path, sizeof path, "%s/.edgeprune", strcmp(home, "/") ? home : "") >= (int)sizeof path)
      return ENAMETOOLONG;
    folder = path;
  }
  int status = make_folders(folder, 1);
  struct stat found;
  if (!status && stat(folder, &found)) status = errno;
  if (!status && !S_ISDIR(found.st_mode)) status = ENOTDIR;
  write_bytes(out, folder, strlen(folder));
  return status;
}

/* [text partial path, int size] -> [int fd, int free bytes]; ENOSPC if the file cannot fit. */
int file_create(reader *in, writer *out) {
  const char *path = read_text(in);
  int64_t size = read_int(in);
  if (in->bad) return EINVAL;
  int status = make_folders(path, 0);
  if (status) return status;
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return errno;
  struct statvfs disk;
  int64_t free_bytes = fstatvfs(fd, &disk) ? INT64_MAX : (int64_t)disk.f_bavail * (int64_t)disk.f_frsize;
  if (size > free_bytes) {
    close(fd);
    unlink(path);
    fd = -1;
    status = ENOSPC;
  }
  write_int(out, fd);
  write_int(out, free_bytes);
  return status;
}

/* [int fd, bytes] -> [] */
int file_write(reader *in, writer *out) {
  (void)out;
  int fd = (int)read_int(in);
  size_t size;
  const char *data = read_bytes(in, &size);
  if (in->bad) return EINVAL;
  while (size) {
    ssize_t written = write(fd, data, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    data += written;
    size -= (size_t)written;
  }
  return 0;
}

/* [int fd, text partial, text path, int mode] -> []: the file is whole, on the disk, and in its place. */
int file_commit(reader *in, writer *out) {
  (void)out;
  int fd = (int)read_int(in);
  const char *partial = read_text(in), *path = read_text(in);
  mode_t mode = (mode_t)read_int(in);
  if (in->bad) return EINVAL;
  int status = fchmod(fd, mode) || fsync(fd) ? errno : 0;
  if (close(fd) && !status) status = errno;
  if (!status && rename(partial, path)) status = errno;
  if (status) {
    unlink(partial);
    return status;
  }
  return sync_folder_of(path);
}

/* [int fd or -1, text partial] -> [] */
int file_abort(reader *in, writer *out) {
  (void)out;
  int fd = (int)read_int(in);
  const char *partial = read_text(in);
  if (in->bad) return EINVAL;
  if (fd >= 0) close(fd);
  return unlink(partial) && errno != ENOENT ? errno : 0;
}

/* [text path] -> [int fd]: regular files only; a pipe would keep the session waiting. */
int file_open(reader *in, writer *out) {
  const char *path = read_text(in);
  if (in->bad) return EINVAL;
  int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return errno;
  struct stat found;
  int status = fstat(fd, &found) ? errno : S_ISDIR(found.st_mode) ? EISDIR : S_ISREG(found.st_mode) ? 0 : EINVAL;
  if (status) close(fd);
  write_int(out, status ? -1 : fd);
  return status;
}

/* [int fd, int most] -> [bytes]; none at the end of the file, which closes it. */
int file_read(reader *in, writer *out) {
  int fd = (int)read_int(in);
  int64_t most = read_int(in);
  if (in->bad || most <= 0) return EINVAL;
  char *space = write_space(out, MOST_READ);
  if (!space) return ENOMEM;
  ssize_t size;
  do
    size = read(fd, space, most < MOST_READ ? (size_t)most : MOST_READ);
  while (size < 0 && errno == EINTR);
  int status = size < 0 ? errno : 0;
  if (size <= 0) close(fd);
  write_used(out, size > 0 ? (size_t)size : 0);
  return status;
}

static int remove_one(const char *path, const struct stat *found, int kind, struct FTW *where) {
  (void)found, (void)kind, (void)where;
  return remove(path) && errno != ENOENT ? errno : 0;
}

/* [text path] -> []: a file, a link, or a folder with all in it; a missing one is fine. */
int file_remove(reader *in, writer *out) {
  (void)out;
  const char *path = read_text(in);
  if (in->bad) return EINVAL;
  int status = nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
  if (status < 0) return errno == ENOENT ? 0 : errno;
  return status;
}
