#!/usr/bin/env bash
# Start a throw-away Slurm of two nodes, each with two pretended GPUs, on the loopback.
#
#   start.sh DIR     then SLURM_CONF=DIR/slurm.conf; stop.sh DIR ends it
#
# Needs root and the packages slurmctld, slurmd, slurm-client and munge; no systemd.
set -euo pipefail
D=${1:?directory for the state of the cluster}
H=$(hostname -s)
# The host name must resolve to the loopback, and so must the first node's: it is MASTER_ADDR.
getent ahostsv4 "$H" | grep -q '^127\.' || echo "127.0.0.1 $H # slurm-test" >> /etc/hosts
getent ahostsv4 slurmci1 > /dev/null || echo "127.0.0.1 slurmci1 slurmci2 # slurm-test" >> /etc/hosts
install -d -m 755 "$D" "$D"/{state,slurmci1,slurmci2,log,run}
[ -s "$D/munge.key" ] || (umask 077; dd if=/dev/urandom of="$D/munge.key" bs=128 count=1 status=none)
cat > "$D/slurm.conf" <<X
ClusterName=ci
SlurmctldHost=$H(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$D/run/munge.sock,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort=16817
SlurmctldPidFile=$D/run/slurmctld.pid
SlurmctldLogFile=$D/log/slurmctld.log
StateSaveLocation=$D/state
SlurmdPidFile=$D/run/slurmd-%n.pid
SlurmdLogFile=$D/log/slurmd-%n.log
SlurmdSpoolDir=$D/%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=5
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
ReturnToService=2
KillWait=5
InactiveLimit=0
MinJobAge=300
SlurmdTimeout=600
MessageTimeout=100
GresTypes=gpu
NodeName=slurmci1 NodeHostname=$H NodeAddr=127.0.0.1 Port=17001 CPUs=4 RealMemory=8000 TmpDisk=100000 Gres=gpu:rtx_3090:2 State=UNKNOWN
NodeName=slurmci2 NodeHostname=$H NodeAddr=127.0.0.1 Port=17002 CPUs=4 RealMemory=8000 TmpDisk=100000 Gres=gpu:rtx_3090:2 State=UNKNOWN
PartitionName=gpu Nodes=slurmci1,slurmci2 Default=YES MaxTime=INFINITE State=UP
X
cat > "$D/gres.conf" <<X
NodeName=slurmci1 Name=gpu Type=rtx_3090 File=/dev/tty[0-1]
NodeName=slurmci2 Name=gpu Type=rtx_3090 File=/dev/tty[2-3]
X
export SLURM_CONF=$D/slurm.conf
/usr/sbin/munged --key-file="$D/munge.key" --socket="$D/run/munge.sock" --pid-file="$D/run/munged.pid" --log-file="$D/log/munged.log" --seed-file="$D/run/munged.seed"
/usr/sbin/slurmctld -f "$D/slurm.conf" -c
/usr/sbin/slurmd -f "$D/slurm.conf" -N slurmci1
/usr/sbin/slurmd -f "$D/slurm.conf" -N slurmci2
for _ in $(seq 60); do [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = 2 ] && break; sleep 0.5; done
sinfo -N -o '%N %T %c %m %G'
