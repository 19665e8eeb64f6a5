import javax.inject.Inject
import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
    id("org.jetbrains.kotlin.plugin.compose")
}

/** The model, converted from the checkpoint in this repository. */
abstract class ConvertModel : DefaultTask() {
    @get:InputDirectory
    @get:PathSensitive(PathSensitivity.RELATIVE)
    abstract val checkpoint: DirectoryProperty

    @get:Internal
    abstract val repository: DirectoryProperty

    @get:OutputDirectory
    abstract val assets: DirectoryProperty

    @get:Inject
    abstract val processes: ExecOperations

    @TaskAction
    fun convert() {
        processes.exec {
            workingDir = repository.get().asFile
            commandLine(
                "cargo", "run", "--release", "-p", "filbert-cli",
                "--no-default-features", "--features", "convert", "--",
                "convert", checkpoint.get().asFile.path,
                "-o", assets.file("sentiment.filbert").get().asFile.path,
            )
        }
    }
}

val convertModel by tasks.registering(ConvertModel::class) {
    description = "Converts models/tiny-sst2 to sentiment.filbert."
    repository.set(rootDir.parentFile)
    checkpoint.set(rootDir.parentFile.resolve("models/tiny-sst2"))
    assets.set(layout.buildDirectory.dir("generated/model"))
}

android {
    namespace = "dev.filbert.sample"
    compileSdk = 36

    defaultConfig {
        applicationId = "dev.filbert.sample"
        minSdk = 24
        targetSdk = 36
        versionCode = 1
        versionName = "1.0"
    }

    buildTypes {
        release {
            // So that the sample proves the library's rules for R8.
            isMinifyEnabled = true
            isShrinkResources = true
            proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"))
            signingConfig = signingConfigs.getByName("debug")
        }
    }

    buildFeatures {
        compose = true
    }

    // The model is mapped where it lies in the package.
    androidResources {
        noCompress += "filbert"
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }
}

androidComponents {
    onVariants { variant ->
        variant.sources.assets?.addGeneratedSourceDirectory(convertModel, ConvertModel::assets)
    }
}

kotlin {
    compilerOptions {
        jvmTarget.set(JvmTarget.JVM_11)
    }
}

dependencies {
    implementation(project(":filbert"))
    implementation(platform("androidx.compose:compose-bom:2025.10.00"))
    implementation("androidx.activity:activity-compose:1.11.0")
    implementation("androidx.compose.material3:material3")
    implementation("androidx.lifecycle:lifecycle-viewmodel-compose:2.9.4")
}
