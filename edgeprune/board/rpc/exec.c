/* Commands of the board.
 *
 *   session process (a server of TVM's) --- lifeline ---> supervisor ---> command, a session of its own
 *
 * The supervisor is forked, not executed, and does nothing but wait. It kills the command's process
 * group at the deadline, and at once when the lifeline breaks: that is when the asking end gave up,
 * when the connection was lost, and when the server was killed. Between fork and exec only
 * async-signal-safe functions are called, because the server has threads. */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { JOBS = 16, MOST_OUTPUT = 1 << 18 };
enum { RUNNING, EXITED, TIMED_OUT, NOT_STARTED };

typedef struct {
  int32_t state, code; /* code: exit code, 128 + signal, or errno */
} report;

typedef struct {
  int used, lifeline, reports, streams[2];
  pid_t supervisor;
  report last;
} job;
static job jobs[JOBS];

typedef struct {
  int folder, lifeline, reports, streams[2]; /* the far ends */
  int64_t deadline_ms;
  char **argv, **environment;
  const char *path; /* of $PATH */
} plan;

extern char **environ;

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void send_report(int fd, int32_t state, int32_t code) {
  report told = {state, code};
  ssize_t ignored = write(fd, &told, sizeof told);
  (void)ignored;
}

/* Neither the server's connection nor another job's lifeline may live on in here. */
static void close_all_but(const int *kept, int count) {
  int first = 3;
  while (1) {
    int next = INT_MAX;
    for (int i = 0; i < count; i++)
      if (kept[i] >= first && kept[i] < next) next = kept[i];
    unsigned last = next == INT_MAX ? ~0u : (unsigned)next - 1;
    if (next > first) {
      long status = -1;
#ifdef SYS_close_range
      status = syscall(SYS_close_range, (unsigned)first, last, 0u);
#endif
      if (status) { /* kernels before 5.9 */
        long most = sysconf(_SC_OPEN_MAX);
        if (most < 0 || most > 65536) most = 65536;
        for (long fd = first; fd < most && fd <= (long)last; fd++) close((int)fd);
      }
    }
    if (next == INT_MAX) return;
    first = next + 1;
  }
}

/* execvp without its way out of handing what is no program to a shell. */
static int execute(const plan *the) {
  const char *program = the->argv[0];
  if (strchr(program, '/')) {
    execve(program, the->argv, the->environment);
    return errno;
  }
  int status = ENOENT;
  size_t length = strlen(program);
  for (const char *at = the->path; at; at = strchr(at, ':') ? strchr(at, ':') + 1 : NULL) {
    char candidate[PATH_MAX];
    size_t size = strcspn(at, ":");
    if (size + length + 2 > sizeof candidate) continue;
    memcpy(candidate, at, size);
    candidate[size] = '/';
    memcpy(candidate + size + (size ? 1 : 0), program, length + 1);
    execve(candidate, the->argv, the->environment);
    if (errno != ENOENT && errno != ENOTDIR) status = errno;
  }
  return status;
}

static void run_command(const plan *the, const sigset_t *none) {
  setsid();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
  sigprocmask(SIG_SETMASK, none, NULL);
  int null = open("/dev/null", O_RDONLY);
  int status = null < 0 || dup2(null, 0) < 0 || dup2(the->streams[0], 1) < 0 || dup2(the->streams[1], 2) < 0 ||
                       fchdir(the->folder)
                   ? errno
                   : 0;
  int kept[] = {the->reports}; /* closed by exec */
  close_all_but(kept, 1);
  send_report(the->reports, NOT_STARTED, status ? status : execute(the));
  _exit(127);
}

static void nothing(int number) { (void)number; }

static void supervise(const plan *the) {
  int ends[] = {the->folder, the->lifeline, the->reports, the->streams[0], the->streams[1]};
  close_all_but(ends, 5);
  setsid();
  int quiet[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE};
  for (size_t i = 0; i < sizeof quiet / sizeof *quiet; i++) signal(quiet[i], SIG_IGN);
  sigset_t none, child_ended;
  sigemptyset(&none);
  sigemptyset(&child_ended);
  sigaddset(&child_ended, SIGCHLD);
  sigprocmask(SIG_SETMASK, &child_ended, NULL); /* let in by ppoll alone, so that none is missed */
  signal(SIGCHLD, nothing);

  pid_t command = fork();
  if (command == 0) run_command(the, &none);
  if (command < 0) {
    send_report(the->reports, NOT_STARTED, errno);
    _exit(0);
  }
  close(the->streams[0]);
  close(the->streams[1]);
  int told = 0;
  while (1) {
    /* Not reaped: as long as it is a zombie, nothing else gets the number of its process group. */
    siginfo_t ended = {0};
    if (!told && !waitid(P_PID, (id_t)command, &ended, WEXITED | WNOHANG | WNOWAIT) && ended.si_pid == command) {
      send_report(the->reports, EXITED, ended.si_code == CLD_EXITED ? ended.si_status : 128 + ended.si_status);
      told = 1;
    }
    int64_t left = the->deadline_ms - now_ms();
    struct timespec pause = {left > 0 ? left / 1000 : 0, left > 0 ? left % 1000 * 1000000 : 0};
    struct pollfd lifeline = {the->lifeline, POLLIN, 0};
    int ready = left > 0 ? ppoll(&lifeline, 1, &pause, &none) : 0;
    char byte;
    if (ready > 0 && read(the->lifeline, &byte, 1) == 1) _exit(0); /* all was fetched: what runs on may */
    if (ready < 0 || (ready == 0 && left > 1)) continue;           /* the clock decides */
    kill(-command, SIGKILL);
    kill(command, SIGKILL); /* it may not have got as far as its own group */
    if (ready == 0) send_report(the->reports, TIMED_OUT, 0);
    _exit(0);
  }
}

static int pipe_pair(int *near, int *far, int reading) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC)) return errno;
  *near = ends[reading ? 0 : 1];
  *far = ends[reading ? 1 : 0];
  fcntl(*near, F_SETFL, O_NONBLOCK);
  return 0;
}

static void close_ends(int *ends, int count) {
  for (int i = 0; i < count; i++)
    if (ends[i] >= 0) close(ends[i]);
}

/* The server's environment, with messages in English and bytes as they are. */
static char **c_locale(void) {
  size_t count = 0, kept = 0;
  while (environ[count]) count++;
  char **copy = calloc(count + 2, sizeof *copy);
  if (!copy) return NULL;
  for (size_t i = 0; i < count; i++)
    if (strncmp(environ[i], "LC_ALL=", 7)) copy[kept++] = environ[i];
  copy[kept] = "LC_ALL=C";
  return copy;
}

/* [text folder, int timeout in ms, text argument, ...] -> [int job] */
int command_start(reader *in, writer *out) {
  const char *folder = read_text(in);
  int64_t timeout_ms = read_int(in);
  size_t count = 0, room = in->left / sizeof(uint32_t) + 1;
  if (in->bad || !in->left) return EINVAL;
  char **argv = calloc(room, sizeof *argv), **environment = c_locale();
  int near[4] = {-1, -1, -1, -1}, far[5] = {-1, -1, -1, -1, -1};
  int number = 0, status = argv && environment ? 0 : ENOMEM;
  while (!status && in->left && !in->bad) argv[count++] = (char *)read_text(in);
  if (in->bad) status = EINVAL;
  while (number < JOBS && jobs[number].used) number++;
  if (!status && number == JOBS) status = EAGAIN;
  if (!status && (far[4] = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) status = errno;
  for (int i = 0; i < 4 && !status; i++) status = pipe_pair(&near[i], &far[i], i > 0);
  if (!status) {
    const char *path = getenv("PATH");
    plan the = {far[4], far[0],      far[1], {far[2], far[3]}, now_ms() + timeout_ms, argv, environment,
                path ? path : "/bin:/usr/bin"};
    pid_t supervisor = fork();
    if (supervisor == 0) supervise(&the);
    if (supervisor < 0)
      status = errno;
    else
      jobs[number] = (job){1, near[0], near[1], {near[2], near[3]}, supervisor, {RUNNING, 0}};
  }
  if (status) close_ends(near, 4);
  close_ends(far, 5);
  free(argv);
  free(environment);
  write_int(out, number);
  return status;
}

static job *job_of(reader *in) {
  int64_t number = read_int(in);
  return in->bad || number < 0 || number >= JOBS || !jobs[number].used ? NULL : &jobs[number];
}

/* done: what the command left running may go on. */
static void end_job(job *the, int done) {
  ssize_t ignored = done ? write(the->lifeline, "d", 1) : 0;
  (void)ignored;
  close(the->lifeline);
  while (waitpid(the->supervisor, NULL, 0) < 0 && errno == EINTR) {
  }
  int ends[] = {the->reports, the->streams[0], the->streams[1]};
  close_ends(ends, 3);
  the->used = 0;
}

/* Reads what there is; closes the stream at its end. */
static size_t drain(int *stream, char *space, size_t size) {
  while (*stream >= 0 && size < MOST_OUTPUT) {
    ssize_t got = read(*stream, space + size, MOST_OUTPUT - size);
    if (got > 0) {
      size += (size_t)got;
      continue;
    }
    if (got < 0 && errno == EINTR) continue;
    if (got == 0 || errno != EAGAIN) {
      close(*stream);
      *stream = -1;
    }
    break;
  }
  return size;
}

/* [int job, int wait in ms] -> [int state, int code, bytes stdout, bytes stderr]
 * Waits until the command ends, a buffer is full or the time is over. Any other state than RUNNING
 * comes with the last of the output, and ends the job. */
int command_poll(reader *in, writer *out) {
  job *the = job_of(in);
  int64_t until = now_ms() + read_int(in);
  if (!the || in->bad) return EINVAL;
  char *space[2] = {malloc(MOST_OUTPUT), malloc(MOST_OUTPUT)};
  size_t size[2] = {0, 0};
  int over = 0;
  while (space[0] && space[1]) {
    report told;
    while (read(the->reports, &told, sizeof told) == (ssize_t)sizeof told)
      /* The first says how it ended; only a deadline after that, over held streams, says more. */
      if (the->last.state == RUNNING || told.state == TIMED_OUT) the->last = told;
    for (int i = 0; i < 2; i++) size[i] = drain(&the->streams[i], space[i], size[i]);
    int full = size[0] == MOST_OUTPUT || size[1] == MOST_OUTPUT;
    int ended = the->streams[0] < 0 && the->streams[1] < 0;
    over = !full && (the->last.state == TIMED_OUT || (the->last.state != RUNNING && ended));
    int64_t left = until - now_ms();
    if (over || full || left <= 0) break;
    /* A closed stream is not asked; one that is held after the command ended is. */
    struct pollfd ends[] = {{the->reports, POLLIN, 0}, {the->streams[0], POLLIN, 0}, {the->streams[1], POLLIN, 0}};
    poll(ends, 3, (int)left);
    if (ends[0].revents == POLLHUP) { /* somebody killed the supervisor: nothing more will be told */
      if (the->last.state == RUNNING) the->last = (report){EXITED, 128 + SIGKILL};
      over = 1;
      break;
    }
  }
  write_int(out, over ? the->last.state : RUNNING);
  write_int(out, the->last.code);
  write_bytes(out, space[0], size[0]);
  write_bytes(out, space[1], size[1]);
  int status = space[0] && space[1] ? 0 : ENOMEM;
  free(space[0]);
  free(space[1]);
  if (over) end_job(the, the->last.state == EXITED);
  return status;
}

/* [int job] -> [] */
int command_cancel(reader *in, writer *out) {
  (void)out;
  job *the = job_of(in);
  if (the) end_job(the, 0);
  return the ? 0 : EINVAL;
}
