package e2b

import (
	"bufio"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
)

// clusterID is the id of the one cluster that there is.
const clusterID = "00000000-0000-0000-0000-000000000000"

type nodeView struct {
	ID                   string      `json:"id"`
	ServiceInstanceID    string      `json:"serviceInstanceID"`
	ClusterID            string      `json:"clusterID"`
	Version              string      `json:"version"`
	Commit               string      `json:"commit"`
	Status               string      `json:"status"`
	StatusChangedAt      stamp       `json:"statusChangedAt"`
	SandboxCount         int         `json:"sandboxCount"`
	SandboxStartingCount int         `json:"sandboxStartingCount"`
	CreateSuccesses      uint64      `json:"createSuccesses"`
	CreateFails          uint64      `json:"createFails"`
	MachineInfo          machineInfo `json:"machineInfo"`
	Metrics              nodeMetrics `json:"metrics"`
}

type machineInfo struct {
	CPUFamily       string `json:"cpuFamily"`
	CPUModel        string `json:"cpuModel"`
	CPUModelName    string `json:"cpuModelName"`
	CPUArchitecture string `json:"cpuArchitecture"`
}

type nodeMetrics struct {
	AllocatedCPU         int          `json:"allocatedCPU"`
	AllocatedMemoryBytes int64        `json:"allocatedMemoryBytes"`
	CPUCount             int          `json:"cpuCount"`
	CPUPercent           int          `json:"cpuPercent"`
	MemoryTotalBytes     int64        `json:"memoryTotalBytes"`
	MemoryUsedBytes      int64        `json:"memoryUsedBytes"`
	HugePagesTotal       int          `json:"hugePagesTotal"`
	HugePagesUsed        int          `json:"hugePagesUsed"`
	HugePagesReserved    int          `json:"hugePagesReserved"`
	HugePageSizeBytes    int          `json:"hugePageSizeBytes"`
	Disks                []diskMetric `json:"disks"`
}

type diskMetric struct {
	MountPoint     string `json:"mountPoint"`
	Device         string `json:"device"`
	FilesystemType string `json:"filesystemType"`
	UsedBytes      int64  `json:"usedBytes"`
	TotalBytes     int64  `json:"totalBytes"`
}

func viewNode(n machine.Node) nodeView {
	return nodeView{
		ID: n.ID, ServiceInstanceID: n.ID, ClusterID: clusterID, Version: n.Version, Commit: n.Version,
		Status: "ready", StatusChangedAt: stamp(n.StartedAt),
		SandboxCount: n.Machines, SandboxStartingCount: n.Starting, CreateSuccesses: n.Created, CreateFails: n.CreateFailed,
		MachineInfo: hostInfo(),
		Metrics: nodeMetrics{
			AllocatedCPU: n.AllocatedCPUs, AllocatedMemoryBytes: int64(n.AllocatedMemMB) << 20,
			CPUCount: n.CPUs, CPUPercent: int(n.CPUPercent), MemoryTotalBytes: n.MemoryTotal, MemoryUsedBytes: n.MemoryUsed,
			Disks: []diskMetric{{MountPoint: "machines", Device: "pool", FilesystemType: "btrfs", UsedBytes: n.DiskUsed, TotalBytes: n.DiskTotal}},
		},
	}
}

func (d *Door) listNodes(w http.ResponseWriter, r *http.Request, _ caller) error {
	if id := r.URL.Query().Get("clusterID"); id != "" && id != clusterID {
		return door.WriteJSON(w, http.StatusOK, []nodeView{})
	}
	return door.WriteJSON(w, http.StatusOK, []nodeView{viewNode(d.engine.Node())})
}

func (d *Door) nodeInfo(w http.ResponseWriter, r *http.Request, _ caller) error {
	n := d.engine.Node()
	if id := r.PathValue("nodeID"); id != n.ID {
		return fail(http.StatusNotFound, "there is no node %q", door.Clip(id))
	}
	return door.WriteJSON(w, http.StatusOK, viewNode(n))
}

// hostInfo describes the processor; it does not change while we run.
var hostInfo = sync.OnceValue(func() machineInfo {
	info := machineInfo{CPUArchitecture: runtime.GOARCH}
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return info
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan() && lines.Text() != ""; {
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(name) {
		case "cpu family":
			info.CPUFamily = value
		case "model":
			info.CPUModel = value
		case "model name":
			info.CPUModelName = value
		}
	}
	return info
})
