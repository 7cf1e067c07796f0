"""System calls by what the filter does with them, with their numbers on x86-64 and on arm64.

An entry is ``name:x86-64:arm64``, ``-`` where an architecture has no such call. The numbers are those
of Linux' ``unistd_64.h`` and ``asm-generic/unistd.h``, which never change.
"""

from __future__ import annotations

__all__ = ["ALLOWED", "DEADLY", "EXAMINED", "PRETENDED", "REFUSED", "number"]

_MACHINES = ("x86_64", "aarch64")

Table = dict[str, tuple[int | None, ...]]


def _table(text: str) -> Table:
    table: Table = {}
    for entry in text.split():
        name, *numbers = entry.split(":")
        table[name] = tuple(None if value == "-" else int(value) for value in numbers)
    return table


def number(table: Table, name: str, machine: str) -> int | None:
    """The number of the call on `machine`; None where it has none. KeyError."""
    return table[name][_MACHINES.index(machine)]


# What jobs do all day.
ALLOWED = _table(
    """
    read:0:63 write:1:64 readv:19:65 writev:20:66 pread64:17:67 pwrite64:18:68 preadv:295:69 pwritev:296:70
    preadv2:327:286 pwritev2:328:287 close:3:57 close_range:436:436 lseek:8:62 dup:32:23 dup2:33:-
    dup3:292:24 pipe:22:- pipe2:293:59 flock:73:32 fsync:74:82 fdatasync:75:83 sync_file_range:277:84
    ftruncate:77:46 fallocate:285:47 fadvise64:221:223 readahead:187:213 sendfile:40:71
    copy_file_range:326:285
    open:2:- openat:257:56 creat:85:- truncate:76:45 access:21:- faccessat:269:48 faccessat2:439:439
    stat:4:- fstat:5:80 lstat:6:- newfstatat:262:79 statx:332:291 statfs:137:43 fstatfs:138:44 readlink:89:-
    readlinkat:267:78 getdents:78:- getdents64:217:61 getcwd:79:17 chdir:80:49 fchdir:81:50 mkdir:83:-
    mkdirat:258:34 rmdir:84:- unlink:87:- unlinkat:263:35 rename:82:- renameat:264:38 renameat2:316:276
    link:86:- linkat:265:37 symlink:88:- symlinkat:266:36 mknod:133:- mknodat:259:33 umask:95:166
    getxattr:191:8 lgetxattr:192:9 fgetxattr:193:10 listxattr:194:11 llistxattr:195:12 flistxattr:196:13
    mmap:9:222 munmap:11:215 mprotect:10:226 mremap:25:216 brk:12:214 madvise:28:233 mincore:27:232
    msync:26:227 mlock:149:228 munlock:150:229 mlock2:325:284 get_mempolicy:239:236 membarrier:324:283
    futex:202:98 futex_waitv:449:449 set_robust_list:273:99 get_robust_list:274:100 set_tid_address:218:96
    rseq:334:293 gettid:186:178 exit:60:93 exit_group:231:94 sched_yield:24:124 sched_getaffinity:204:123
    sched_getparam:143:121 sched_getscheduler:145:120 sched_get_priority_max:146:125
    sched_get_priority_min:147:126 getcpu:309:168 arch_prctl:158:- restart_syscall:219:128
    rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigreturn:15:139 rt_sigpending:127:136
    rt_sigsuspend:130:133 rt_sigtimedwait:128:137 sigaltstack:131:132 pause:34:- signalfd:282:-
    signalfd4:289:74
    nanosleep:35:101 clock_nanosleep:230:115 clock_gettime:228:113 clock_getres:229:114 gettimeofday:96:169
    time:201:- times:100:153 getitimer:36:102 setitimer:38:103 alarm:37:- timer_create:222:107
    timer_settime:223:110 timer_gettime:224:108 timer_getoverrun:225:109 timer_delete:226:111
    timerfd_create:283:85 timerfd_settime:286:86 timerfd_gettime:287:87
    poll:7:- ppoll:271:73 select:23:- pselect6:270:72 epoll_create:213:- epoll_create1:291:20
    epoll_ctl:233:21 epoll_wait:232:- epoll_pwait:281:22 epoll_pwait2:441:441 eventfd:284:- eventfd2:290:19
    getpid:39:172 getppid:110:173 getuid:102:174 geteuid:107:175 getgid:104:176 getegid:108:177
    getgroups:115:158 getresuid:118:148 getresgid:120:150 getpgid:121:155 getpgrp:111:- getsid:124:156
    uname:63:160 sysinfo:99:179 getrusage:98:165 getrlimit:97:163 setrlimit:160:164 getpriority:140:141
    wait4:61:260 waitid:247:95 capget:125:90 getrandom:318:278
    sendto:44:206 sendmsg:46:211 recvfrom:45:207 recvmsg:47:212 shutdown:48:210 getsockname:51:204
    getpeername:52:205 getsockopt:55:209
    """
)
# Allowed with some arguments: see tasks.sandbox.seccomp.
EXAMINED = _table(
    """
    clone:56:220 fcntl:72:25 ioctl:16:29 kill:62:129 tgkill:234:131 prctl:157:167 prlimit64:302:261
    sched_setaffinity:203:122 socketpair:53:199
    """
)
# Refused with EPERM: libraries try these and live without.
REFUSED = _table(
    """
    socket:41:198 connect:42:203 bind:49:200 listen:50:201 accept:43:202 accept4:288:242 execve:59:221
    execveat:322:281 fork:57:- vfork:58:- setsid:112:157 setpgid:109:154 setuid:105:146 setgid:106:144
    setreuid:113:145 setregid:114:143 setresuid:117:147 setresgid:119:149 setgroups:116:159 setfsuid:122:151
    setfsgid:123:152 capset:126:91 setpriority:141:140 sched_setscheduler:144:119 sched_setparam:142:118
    sched_setattr:314:274 ioprio_set:251:30 tkill:200:130 rt_sigqueueinfo:129:138 rt_tgsigqueueinfo:297:240
    pidfd_open:434:434 pidfd_send_signal:424:424 utime:132:- utimes:235:- futimesat:261:- utimensat:280:88
    """
)
# Landlock does not cover these. Libraries take a refusal for a failed copy, so they are told it is done.
PRETENDED = _table(
    """
    chmod:90:- fchmod:91:52 fchmodat:268:53 fchmodat2:452:452 chown:92:- fchown:93:55 lchown:94:-
    fchownat:260:54
    """
)
# No library of ours has a use for these: who calls one is ended.
DEADLY = _table(
    """
    ptrace:101:117 process_vm_readv:310:270 process_vm_writev:311:271 pidfd_getfd:438:438 kcmp:312:272
    process_madvise:440:440 mount:165:40 umount2:166:39 move_mount:429:429 open_tree:428:428 fsopen:430:430
    fsconfig:431:431 fsmount:432:432 fspick:433:433 mount_setattr:442:442 pivot_root:155:41 chroot:161:51
    setns:308:268 unshare:272:97 bpf:321:280 perf_event_open:298:241 userfaultfd:323:282 kexec_load:246:104
    kexec_file_load:320:294 init_module:175:105 finit_module:313:273 delete_module:176:106 keyctl:250:219
    add_key:248:217 request_key:249:218 open_by_handle_at:304:265 reboot:169:142 swapon:167:224
    swapoff:168:225 acct:163:89 settimeofday:164:170 clock_settime:227:112 sethostname:170:161
    setdomainname:171:162 iopl:172:- ioperm:173:- modify_ldt:154:- quotactl:179:60
    """
)
