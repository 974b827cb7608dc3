package sortal.sample

import android.content.Context
import android.os.Build
import com.qualcomm.qti.QnnDelegate
import org.tensorflow.lite.Delegate
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.gpu.CompatibilityList
import org.tensorflow.lite.gpu.GpuDelegate
import org.tensorflow.lite.nnapi.NnApiDelegate
import java.nio.ByteBuffer

/**
 * Who computes on this phone. Old Android (8.1 to 14) has NNAPI, which reaches DSPs, NPUs and GPUs by the drivers of
 * the phone; Android 15 deprecated it, so there Qualcomm's QNN delegate and LiteRT's GPU delegate are tried. Whatever
 * refuses leaves the CPU with XNNPACK. `Chosen.said` is the plain statement of what runs, to be logged or shown.
 */
class Chosen(val interpreter: Interpreter, val said: String, private val delegate: Delegate?) : AutoCloseable {
    override fun close() {
        interpreter.close()
        (delegate as? AutoCloseable)?.close()
    }
}

object Delegates {
    private const val FIRST_WITH_NNAPI = Build.VERSION_CODES.O_MR1
    private const val FIRST_WITHOUT_NNAPI = 35

    fun open(context: Context, model: ByteBuffer, threads: Int = 2): Chosen {
        val refused = mutableListOf<String>()
        for ((name, make) in candidates(context, Build.VERSION.SDK_INT)) {
            val delegate = try {
                make()
            } catch (error: Throwable) { // missing drivers end in linkage errors as well as in exceptions
                refused += "$name: ${error.message}"
                continue
            } ?: continue
            try {
                val options = Interpreter.Options().setNumThreads(threads).addDelegate(delegate)
                return Chosen(Interpreter(model, options), told(name, refused), delegate)
            } catch (error: Throwable) {
                refused += "$name: ${error.message}"
                (delegate as? AutoCloseable)?.close()
            }
        }
        val plain = Interpreter(model, Interpreter.Options().setNumThreads(threads).setUseXNNPACK(true))
        return Chosen(plain, told("CPU with XNNPACK", refused), null)
    }

    /** Names in the order in which they are tried; a maker returns null where the phone has nothing of the kind. */
    fun candidates(context: Context, sdk: Int): List<Pair<String, () -> Delegate?>> = when {
        sdk >= FIRST_WITHOUT_NNAPI -> listOf("QNN" to { qnn(context) }, "GPU" to { gpu() })
        sdk >= FIRST_WITH_NNAPI -> listOf("NNAPI" to { nnapi() }, "GPU" to { gpu() })
        else -> listOf("GPU" to { gpu() })
    }

    private fun nnapi(): Delegate =
        NnApiDelegate(NnApiDelegate.Options().setAllowFp16(false).setUseNnapiCpu(false))

    private fun gpu(): Delegate? {
        val known = CompatibilityList()
        return if (known.isDelegateSupportedOnThisDevice) GpuDelegate(known.bestOptionsForThisDevice) else null
    }

    private fun qnn(context: Context): Delegate? {
        if (Build.SOC_MANUFACTURER !in listOf("QTI", "Qualcomm")) return null
        val options = QnnDelegate.Options()
        options.setBackendType(QnnDelegate.Options.BackendType.HTP_BACKEND)
        options.setSkelLibraryDir(context.applicationInfo.nativeLibraryDir)
        return QnnDelegate(options)
    }

    private fun told(name: String, refused: List<String>): String =
        if (refused.isEmpty()) "$name computes" else "$name computes; refused: ${refused.joinToString("; ")}"
}
